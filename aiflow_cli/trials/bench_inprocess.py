"""One response in this process, without a link: by this program's own decoding, and by transformers' `generate()`.

Both get the same image, prompt and end tokens, both run in inference mode without garbage collection, and both stamp
every delivery of tokens by one clock. transformers' assistant is helped to see the image (it is given neither pixels
nor features otherwise): its own pixels are added to its forward while its cache is empty.
"""

from __future__ import annotations

import contextlib
import gc
from collections import deque
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from aiflow_cli.decoding.actions import Action, Finish, Send
from aiflow_cli.decoding.events import Received
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.errors import UsageError
from aiflow_cli.models.prompt import Prompt
from aiflow_cli.models.quiet import quiet_transformers
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.compute import Compute
from aiflow_cli.node.perform import perform
from aiflow_cli.trials.schedule import Planned
from aiflow_cli.wire.messages import Picture, Request, Round, Tokens, unpack_ids
from aiflow_cli.world.record import Trial
from aiflow_cli.world.recorder import Recorder


class InProcess:
    """A target and a draft model in this process; each method makes one response."""

    def __init__(
        self, target: VisionLanguageModel, draft: VisionLanguageModel, question: str, max_new_tokens: int, gamma: int
    ) -> None:
        """Nothing is made yet."""
        self._target, self._draft = target, draft
        self._models = {"target": Compute(target), "draft": Compute(draft)}
        self._question, self._max_new_tokens, self._gamma = question, max_new_tokens, gamma

    def serve(self, planned: Planned) -> Trial:
        """What the server does for a request, server-only or co-located, with nothing between it and its caller."""
        target, (trial, image) = self._target, planned
        session = ServerSession(target.eos_ids, target.tokenizer.vocab_size, can_draft=True)
        method = trial.setting.method.value
        request = Request(0, method, self._gamma, self._max_new_tokens, self._question, Picture(image))
        with _recording(trial) as recorder:
            recorder.sent(request, 0, perf_counter())
            actions: deque[Action] = deque(session.handle(Received(request)))
            while actions:
                match actions.popleft():
                    case Send(Tokens() | Round() as message):
                        recorder.received(message, 0, perf_counter())
                        recorder.delivered(unpack_ids(message.ids), perf_counter())
                    case Finish(stopped):
                        recorder.finished(stopped)
                    case work:
                        actions += session.handle(perform(work, self._models))  # type: ignore[arg-type]
        return recorder.trial("")

    def generate(self, planned: Planned) -> Trial:
        """transformers' greedy `generate()` of the target."""
        return self._generate(planned.trial, self._target.prepare(planned.image, self._question))

    def assisted(self, planned: Planned) -> Trial:
        """transformers' assisted generation; raises UsageError if the assistant cannot be given the target's prompt."""
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
        pixels = _pixels(assistant, drafts)

        def see(_module: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            past = kwargs.get("past_key_values")
            empty = past is None or past.get_seq_length() == 0
            return args, kwargs | {"pixel_values": pixels} if empty else kwargs

        handle = assistant.register_forward_pre_hook(see, with_kwargs=True)
        try:
            return self._generate(planned.trial, prompt, assistant_model=assistant)
        finally:
            handle.remove()

    def _generate(self, trial: Trial, prompt: Prompt, **options: Any) -> Trial:
        model: Any = self._target.model
        ids = torch.tensor([prompt.input_ids], device=model.device)
        stop_ids = sorted(self._target.eos_ids)
        # transformers warns of how its own assisted generation calls it
        with quiet_transformers(), _recording(trial) as recorder:
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=_pixels(model, prompt),
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


def _pixels(model: Any, prompt: Prompt) -> Tensor | None:
    return None if prompt.pixel_values is None else prompt.pixel_values.to(model.device, model.dtype)


@contextlib.contextmanager
def _recording(trial: Trial) -> Iterator[Recorder]:
    """Where a response begins: in inference mode and without garbage collection, the same for all."""
    recorder = Recorder(trial)
    gc.collect(1)
    gc.disable()
    try:
        with torch.inference_mode():
            recorder.begun(perf_counter())
            yield recorder
    finally:
        gc.enable()
