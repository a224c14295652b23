"""One response in this process, without a link: by this program's own decoding, and by transformers' `generate()`.

Both get the same image, prompt and end tokens, both run in inference mode without garbage collection, and both stamp every delivery of
tokens by one clock. transformers' assistant is helped to see the image (it is given neither pixels nor features otherwise): its own pixels
are added to its forward while its cache is empty.
"""

from __future__ import annotations

import contextlib
import gc
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from transformers import InternVLForConditionalGeneration
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging as transformers_logging

from aiflow_cli.decoding.actions import Action, DraftTokens, Extend, PrefillDraft, PrefillTarget, Send
from aiflow_cli.decoding.events import Drafted, Event, Extended, Prefilled, Received
from aiflow_cli.decoding.methods import Method
from aiflow_cli.decoding.server import ServerSession
from aiflow_cli.errors import UsageError
from aiflow_cli.images.imageset import ImageRecord
from aiflow_cli.models.prompt import Prompt
from aiflow_cli.models.vlm import VisionLanguageModel
from aiflow_cli.node.compute import Compute
from aiflow_cli.trials.store import Record
from aiflow_cli.wire.messages import Message, Request, Tokens, unpack_ids


@dataclass
class Deliveries:
    """Tokens as they come: the clock starts when this is made."""

    tokens: list[int] = field(default_factory=list)
    times: list[tuple[float, int]] = field(default_factory=list)
    begun_s: float = field(default_factory=perf_counter)

    def add(self, ids: tuple[int, ...]) -> None:
        """Note tokens that have just come."""
        self.times.append((perf_counter() - self.begun_s, len(ids)))
        self.tokens += ids

    def record(self, image: ImageRecord) -> Record:
        """The fields that a response has in common with a trial."""
        return {
            "image_id": image.image_id,
            "tokens": self.tokens,
            "n_tokens": len(self.tokens),
            "deliveries": self.times,
            "ttft_s": self.times[0][0],
            "latency_s": self.times[-1][0],
        }


class InProcess:
    """A target and a draft model in this process; each method makes one response."""

    def __init__(
        self, target: VisionLanguageModel, draft: VisionLanguageModel, question: str, max_new_tokens: int, gamma: int
    ) -> None:
        """Raises UsageError, at the first response, if transformers' assistant cannot be given the target's prompt."""
        self._target, self._draft = target, draft
        self._target_compute, self._draft_compute = Compute(target), Compute(draft)
        self._question, self._max_new_tokens, self._gamma = question, max_new_tokens, gamma

    def server_only(self, image: ImageRecord) -> Record:
        """The target, token by token."""
        return self._serve(image, Method.SERVER_ONLY)

    def co_located(self, image: ImageRecord) -> Record:
        """Draft and target in turns."""
        return self._serve(image, Method.CO_LOCATED)

    def _serve(self, image: ImageRecord, method: Method) -> Record:
        """What the server does for a request, with nothing between it and its caller."""
        target = self._target
        session = ServerSession(target.eos_ids, target.tokenizer.vocab_size, can_draft=True)
        request = Request(0, method.value, self._gamma, self._max_new_tokens, self._question, image.data)
        with _undisturbed():
            deliveries = Deliveries()
            actions: deque[Action] = deque(session.handle(Received(request)))
            while actions:
                action = actions.popleft()
                if isinstance(action, Send):
                    deliveries.add(_ids(action.message))
                elif event := self._work(action):
                    actions += session.handle(event)
        return deliveries.record(image)

    def _work(self, action: Action) -> Event | None:
        match action:
            case PrefillTarget():
                return Prefilled(self._target_compute.prefill(action))
            case PrefillDraft():
                return Prefilled(self._draft_compute.prefill(action))
            case Extend():
                return Extended(self._target_compute.extend(action))
            case DraftTokens():
                return Drafted(self._draft_compute.draft(action))
        return None

    def generate(self, image: ImageRecord) -> Record:
        """transformers' greedy `generate()` of the target."""
        return self._generate(image, self._target.prepare(image.data, self._question))

    def assisted(self, image: ImageRecord) -> Record:
        """transformers' assisted generation, constant draft length, with an assistant that sees the image."""
        prompt, drafts = (model.prepare(image.data, self._question) for model in (self._target, self._draft))
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
            return self._generate(image, prompt, assistant_model=assistant)

    def _generate(self, image: ImageRecord, prompt: Prompt, **options: Any) -> Record:
        model: Any = self._target.model
        ids = torch.tensor([prompt.input_ids], device=model.device)
        stop_ids = sorted(self._target.eos_ids)
        with _undisturbed(), _unlogged():
            stamps = _Stamps()
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=_placed(model, prompt),
                do_sample=False,
                max_new_tokens=self._max_new_tokens,
                eos_token_id=stop_ids,
                pad_token_id=stop_ids[0],
                streamer=stamps,
                **options,
            )
        return stamps.deliveries.record(image)


class _Stamps(BaseStreamer):
    """Stamps what `generate()` hands out; the first is the prompt."""

    def __init__(self) -> None:
        self.deliveries = Deliveries()
        self._prompt_seen = False

    def put(self, value: Tensor) -> None:
        if self._prompt_seen:
            self.deliveries.add(tuple(value.flatten().tolist()))
        self._prompt_seen = True

    def end(self) -> None:
        pass


def _ids(message: Message) -> tuple[int, ...]:
    if not isinstance(message, Tokens):
        raise TypeError(f"a server sends tokens, not {message}")
    return unpack_ids(message.ids)


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
