"""The live world of a run: a server process for each pair, a relay process for each shaped link, and the draft models in this process.

    device (this process) --- relay (`aiflow link`) --- server (`aiflow serve`)

Everything is started by entering a `LiveWorld` and ended by leaving it; `trial` then makes one response and gives its record, one line of
trials.jsonl:

    trial, node (the machine's name), block, order, repeat, warmup, image_id, image_bytes, pair, method, gamma,
    link {uplink_bytes_per_s, downlink_bytes_per_s (null: unlimited), burst_bytes, delay_s}, started_at,
    tokens [ids], n_tokens, stopped, caption, deliveries [[seconds since t0, tokens]], ttft_s, latency_s,
    prefill {draft_s, upload_s, server_s, server_queue_s}, steps_s [server-only decode steps],
    rounds [{drafted, judged (accepted or rejected), accepted, delivered, draft_s, encode_s, uplink_s, queue_s, verify_s, downlink_s, apply_s,
        wall_s, bytes_up, bytes_down, redecide_steps, redecide_s}],
    bytes_up, bytes_down, bytes_by_message {up {kind: bytes}, down {kind: bytes}}, identical (null: not compared), mismatch
"""

from __future__ import annotations

import contextlib
import math
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from aiflow_cli.decoding.device import Task
from aiflow_cli.decoding.exact import DEFAULT_BOUND
from aiflow_cli.decoding.methods import Method
from aiflow_cli.link.address import Address, parse_address
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.node import placement
from aiflow_cli.node.process import Child
from aiflow_cli.trials.provenance import now
from aiflow_cli.trials.schedule import Slot
from aiflow_cli.trials.settings import Setting
from aiflow_cli.trials.store import Record

if TYPE_CHECKING:
    from aiflow_cli.images.imageset import ImageRecord
    from aiflow_cli.models.pair import PairSpec
    from aiflow_cli.models.vlm import VisionLanguageModel
    from aiflow_cli.node.connection import Connection
    from aiflow_cli.node.device import Device
    from aiflow_cli.node.response import Response

LOCAL = Address("127.0.0.1", 0)
ROUND_DIGITS = 7
"""Seconds are stored to a tenth of a microsecond."""


@dataclass(frozen=True)
class LiveOptions:
    """What all trials of a run share. `dtype`, `prompt` and `max_new_tokens` of None are the pair's own."""

    device: str = "cpu"
    dtype: str | None = None
    quantize: str | None = None
    exact: bool = False
    threads: int = 1
    prompt: str | None = None
    max_new_tokens: int | None = None
    server: str | None = None


class LiveWorld:
    """Models and processes that a set of settings needs. A context manager; `trial` may be called within it.

    Raises what starting can raise: UsageError, PrerequisiteError, CheckpointError, LinkError.
    """

    def __init__(self, pairs: Mapping[str, PairSpec], settings: Iterable[Setting], options: LiveOptions) -> None:
        """Nothing is started yet."""
        self._pairs, self._settings, self._options = dict(pairs), list(settings), options
        self._stack = contextlib.ExitStack()
        self._servers: dict[str, Address] = {}
        self._relays: dict[tuple[str, LinkSpec], Address] = {}
        self._connections: dict[tuple[str, LinkSpec], Connection] = {}
        self._devices: dict[str, Device] = {}
        self._requests = 0

    def __enter__(self) -> Self:
        """Start servers, load drafts meanwhile, start relays, connect."""
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        """End every process and close every connection."""
        self._stack.close()

    def draft(self, pair: str) -> VisionLanguageModel:
        """The draft model of a pair, as it was loaded."""
        return self._devices[pair].model

    def dtype(self, pair: str) -> str:
        """What a pair is computed in."""
        return self._options.dtype or self._pairs[pair].dtype_on(self._options.device)

    def _start(self) -> None:
        children = {name: self._start_server(name) for name in self._pairs if self._needs_server(name)}
        place = placement.plan(placement.available(), self._options.threads, self._options.device != "cpu")
        self._load_drafts()
        for name, child in children.items():
            if child is not None:
                self._servers[name] = parse_address(child.ready()["listening"])
                placement.pin(place.server, child.pid)
        for setting in self._settings:
            self._connect(setting, place)
        if place.device:
            before = placement.available()
            placement.pin(place.device)
            self._stack.callback(placement.pin, before)

    def _needs_server(self, pair: str) -> bool:
        return any(s.pair == pair and s.on_server for s in self._settings)

    def _start_server(self, pair: str) -> Child | None:
        options = self._options
        if options.server is not None:
            self._servers[pair] = parse_address(options.server)
            return None
        spec = self._pairs[pair]
        arguments = ["serve", "--pair", pair, "--target", str(spec.folder("target")), "--listen", str(LOCAL)]
        arguments += ["--device", options.device, "--dtype", self.dtype(pair), "--threads", str(options.threads)]
        if options.quantize:
            arguments += ["--quantize", options.quantize]
        if any(s.pair == pair and s.method is Method.CO_LOCATED for s in self._settings):
            arguments += ["--with-draft", "--draft", str(spec.folder("draft"))]
        return self._stack.enter_context(Child("server", arguments))

    def _load_drafts(self) -> None:
        import torch

        from aiflow_cli.models.vlm import VisionLanguageModel
        from aiflow_cli.node.device import Device

        options = self._options
        torch.set_num_threads(options.threads)
        for name, spec in self._pairs.items():
            folder = spec.folder("draft")
            model = VisionLanguageModel.from_folder(folder, options.device, self.dtype(name), options.quantize)
            self._devices[name] = Device(model)

    def _connect(self, setting: Setting, place: placement.Placement) -> None:
        from aiflow_cli.node.connection import Connection

        key = (setting.pair, setting.link)
        if not setting.on_server or key in self._connections:
            return
        address = self._relayed(setting, place)
        connection = self._stack.enter_context(Connection(address))
        connection.greet(self._devices[setting.pair].model.fingerprint)
        self._connections[key] = connection

    def _relayed(self, setting: Setting, place: placement.Placement) -> Address:
        """Where to connect for a setting: its relay (started if there is none yet), or the server itself if nothing is shaped."""
        server, link = self._servers[setting.pair], setting.link
        if link.unlimited:
            return server
        child = self._stack.enter_context(Child("link", ["link", "--to", str(server), *link_options(link)]))
        address = parse_address(child.ready()["listening"])
        placement.pin(place.link, child.pid)
        return address

    def trial(self, slot: Slot, image: ImageRecord, warmup: bool = False) -> Record:
        """Make one response and give its record. Raises LinkError, ProtocolError, ImageError."""
        setting = slot.setting
        spec, device = self._pairs[setting.pair], self._devices[setting.pair]
        self._requests += 1
        task = Task(
            request_id=self._requests,
            method=setting.method,
            gamma=setting.gamma or 0,
            max_new_tokens=self._options.max_new_tokens or spec.max_new_tokens,
            prompt=self._options.prompt or spec.question,
            image=image.data,
            exact_margin=DEFAULT_BOUND[self.dtype(setting.pair)] if self._options.exact else 0.0,
        )
        connection = self._connections.get((setting.pair, setting.link)) if setting.on_server else None
        started_at = now()
        response = device.respond(task, connection, setting.link)
        caption = device.model.tokenizer.decode(response.tokens).strip()
        return trial_record(slot, image, response, caption, started_at, warmup)


def link_options(link: LinkSpec) -> list[str]:
    """A link as options of `aiflow link`."""
    uplink, downlink = (
        "unlimited" if math.isinf(rate) else f"{rate:.6f}B/s"
        for rate in (link.uplink_bytes_per_s, link.downlink_bytes_per_s)
    )
    return [
        "--uplink",
        uplink,
        "--downlink",
        downlink,
        "--burst",
        f"{link.burst_bytes}B",
        "--delay",
        f"{link.delay_s:.9f}s",
    ]


def trial_record(
    slot: Slot, image: ImageRecord, response: Response, caption: str, started_at: str, warmup: bool
) -> Record:
    """A trial as it is stored."""
    setting = slot.setting
    return {
        "trial": ("warmup-" if warmup else "") + slot.trial,
        "node": platform.node(),
        "block": slot.block,
        "order": slot.order,
        "repeat": slot.repeat,
        "warmup": warmup,
        "image_id": image.image_id,
        "image_bytes": len(image.data),
        "pair": setting.pair,
        "method": setting.method.value,
        "gamma": setting.gamma,
        "link": link_document(setting.link),
        "started_at": started_at,
        "tokens": response.tokens,
        "n_tokens": len(response.tokens),
        "stopped": response.stopped,
        "caption": caption,
        "deliveries": [[_rounded(d.at_s), d.n_tokens] for d in response.deliveries],
        "ttft_s": _rounded(response.ttft_s),
        "latency_s": _rounded(response.latency_s),
        "prefill": {name: _rounded(value) for name, value in asdict(response.prefill).items()},
        "steps_s": [_rounded(step) for step in response.steps_s],
        "rounds": [{name: _rounded(value) for name, value in asdict(r).items()} for r in response.rounds],
        "bytes_up": sum(response.bytes_up.values()),
        "bytes_down": sum(response.bytes_down.values()),
        "bytes_by_message": {"up": dict(response.bytes_up), "down": dict(response.bytes_down)},
        "identical": None,
        "mismatch": None,
    }


def link_document(link: LinkSpec) -> dict[str, Any]:
    """A link in JSON: an unlimited rate is null."""
    return {name: None if value == math.inf else value for name, value in asdict(link).items()}


def _rounded(value: Any) -> Any:
    return round(value, ROUND_DIGITS) if isinstance(value, float) else value
