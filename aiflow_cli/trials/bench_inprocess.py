"""One response in this process, without a link: by this program's own decoding, and by transformers' `generate()`.

Both get the same image, prompt and end tokens, both run in inference mode without garbage collection, and both stamp
every delivery of tokens by one clock. transformers' assistant is helped to see the image (it is given neither pixels
nor features otherwise): its own pixels are added to its forward while its cache is empty.
"""

from __future__ import annotations

import contextlib
import gc
from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from transformers import InternVLForConditionalGeneration
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging as transformers_logging

from aiflow_cli.decoding.actions import Action, Finish, Send
from aiflow_cli.decoding.events import Received
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.errors import UsageError
from aiflow_cli.models.prompt import Prompt
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.compute import Compute
from aiflow_cli.node.perform import perform
from aiflow_cli.trials.schedule import Planned
from aiflow_cli.wire.messages import Message, Picture, Request, Round, Tokens, unpack_ids
from aiflow_cli.world.record import Trial
from aiflow_cli.world.recorder import Recorder


class InProcess:
    """A target and a draft model in this process; each method makes one response."""

    def __init__(
        self, target: VisionLanguageModel, draft: VisionLanguageModel, question: str, max_new_tokens: int, gamma: int
    ) -> None:
        """Raises UsageError, at the first response, if transformers' assistant cannot be given the target's prompt."""
        self._target, self._draft = target, draft
        self._models = {"target": Compute(target), "draft": Compute(draft)}
        self._question, self._max_new_tokens, self._gamma = question, max_new_tokens, gamma

    def serve(self, planned: Planned) -> Trial:
        """What the server does for a request, server-only or co-located, with nothing between it and its caller."""
        target, (trial, image) = self._target, planned
        session = ServerSession(target.eos_ids, target.tokenizer.vocab_size, can_draft=True)
        method = trial.setting.method.value
        request = Request(0, method, self._gamma, self._max_new_tokens, self._question, Picture(image))
        recorder = Recorder(trial)
        with _undisturbed():
            recorder.begun(perf_counter())
            recorder.sent(request, 0, perf_counter())
            actions: deque[Action] = deque(session.handle(Received(request)))
            while actions:
                match actions.popleft():
                    case Send(message):
                        _deliver(message, recorder)
                    case Finish(stopped):
                        recorder.finished(stopped)
                    case work:
                        actions += session.handle(perform(work, self._models))  # type: ignore[arg-type]
        return recorder.trial("")

    def generate(self, planned: Planned) -> Trial:
        """transformers' greedy `generate()` of the target."""
        return self._generate(planned.trial, self._target.prepare(planned.image, self._question))

    def assisted(self, planned: Planned) -> Trial:
        """transformers' assisted generation, constant draft length, with an assistant that sees the image."""
        prompt, drafts = (m.prepare(planned.image, self._question) for m in (self._target, self._draft))
        if prompt.input_ids != drafts.input_ids:
            raise UsageError(
                f"draft {self._draft.name} has another prompt than target {self._target.name} "
                f"({len(drafts)} and {len(prompt)} tokens), so transformers cannot assist with it: choose another pair"
            )
        assistant = self._draft.model
        settings: Any = assistant.generation_config
        settings.num_assistant_tokens = self._gamma
        settings.num_assistant_tokens_schedule = "constant"
        settings.assistant_confidence_threshold = 0.0
        with _seeing(assistant, drafts):
            return self._generate(planned.trial, prompt, assistant_model=assistant)

    def _generate(self, trial: Trial, prompt: Prompt, **options: Any) -> Trial:
        model: Any = self._target.model
        ids = torch.tensor([prompt.input_ids], device=model.device)
        stop_ids = sorted(self._target.eos_ids)
        recorder = Recorder(trial)
        with _undisturbed(), _unlogged():
            recorder.begun(perf_counter())
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=_placed(model, prompt),
                do_sample=False,
                max_new_tokens=self._max_new_tokens,
                eos_token_id=stop_ids,
                pad_token_id=stop_ids[0],
                streamer=_Stamps(recorder),
                **options,
            )
        return recorder.trial("")


class _Stamps(BaseStreamer):
    """Records what `generate()` hands out; the first is the prompt."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder, self._prompt_seen = recorder, False

    def put(self, value: Tensor) -> None:
        if self._prompt_seen:
            self._recorder.delivered(tuple(value.flatten().tolist()), perf_counter())
        self._prompt_seen = True

    def end(self) -> None:
        pass


def _deliver(message: Message, recorder: Recorder) -> None:
    if not isinstance(message, Tokens | Round):
        raise TypeError(f"a server that drafts sends tokens and rounds, not {message}")
    recorder.received(message, 0, perf_counter())
    recorder.delivered(unpack_ids(message.ids), perf_counter())


def _placed(model: InternVLForConditionalGeneration, prompt: Prompt) -> Tensor | None:
    return None if prompt.pixel_values is None else prompt.pixel_values.to(model.device, model.dtype)


@contextlib.contextmanager
def _seeing(model: InternVLForConditionalGeneration, prompt: Prompt) -> Iterator[None]:
    """Within this, `model` sees the prompt's image whenever its cache is empty."""
    pixels = _placed(model, prompt)

    def add(_module: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        past = kwargs.get("past_key_values")
        empty = past is None or past.get_seq_length() == 0
        return args, kwargs | {"pixel_values": pixels} if empty else kwargs

    handle = model.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """transformers warns of how its own assisted generation calls it."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Inference mode, and no garbage collection: the same for all."""
    enabled: Callable[[], None] = gc.enable if gc.isenabled() else gc.disable
    gc.collect(1)
    gc.disable()
    try:
        with torch.inference_mode():
            yield
    finally:
        enabled()
