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

`prefill.draft_s` is the draft model's prefill: on the device, beside the upload, or, co-located, on the server, after the target's.
"""

from __future__ import annotations

import contextlib
import math
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from aiflow_cli.decoding.device import Task
from aiflow_cli.decoding.exact import DEFAULT_BOUND
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import LinkError
from aiflow_cli.link.address import Address, parse_address
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.node import placement
from aiflow_cli.node.connection import Connection, PeerGone
from aiflow_cli.node.process import Child
from aiflow_cli.trials.provenance import now
from aiflow_cli.trials.schedule import Slot
from aiflow_cli.trials.served import ask, ask_for
from aiflow_cli.trials.settings import Setting
from aiflow_cli.trials.store import Record
from aiflow_cli.wire.messages import Served

if TYPE_CHECKING:
    from aiflow_cli.images.imageset import ImageRecord
    from aiflow_cli.models.pair import PairSpec
    from aiflow_cli.models.vlm import VisionLanguageModel
    from aiflow_cli.node.device import Device
    from aiflow_cli.node.response import Response

_Key = tuple[str, LinkSpec]
"""A pair and a link: what has a connection of its own."""
LOCAL = Address("127.0.0.1", 0)
STANDARD_ERROR = "standard error"
"""A server that failed says that more is there, which nobody can read of a server that was started here."""
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

    `served` is what the server of each pair says that it runs, once it is entered. Raises what starting can raise: UsageError (as for a
    server elsewhere that runs another target), PrerequisiteError, CheckpointError, LinkError.
    """

    def __init__(self, pairs: Mapping[str, PairSpec], settings: Iterable[Setting], options: LiveOptions) -> None:
        """Nothing is started yet."""
        self._pairs, self._settings, self._options = dict(pairs), list(settings), options
        self._stack = contextlib.ExitStack()
        self.served: dict[str, Served] = {}
        self._servers: dict[str, Address] = {}
        self._started: dict[str, Child] = {}
        self._relays: dict[_Key, Child] = {}
        self._connections: dict[_Key, Connection] = {}
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
        """What the target of a pair is computed in: the server has the word."""
        return self.served[pair].dtype if pair in self.served else self._dtype_here(pair)

    def _dtype_here(self, pair: str) -> str:
        return self._options.dtype or self._pairs[pair].dtype_on(self._options.device)

    def _start(self) -> None:
        for name in filter(self._needs_server, self._pairs):
            self._find_server(name)
        place = placement.plan(placement.available(), self._options.threads, self._options.device != "cpu")
        self._load_drafts()
        for name, child in self._started.items():
            self._servers[name] = child.ready()
            placement.pin(place.server, child.pid)
            with self._explained(child):
                self.served[name] = ask(self._servers[name])
        for setting in self._settings:
            self._connect(setting, place)
        if place.device:
            before = placement.available()
            placement.pin(place.device)
            self._stack.callback(placement.pin, before)

    def _needs_server(self, pair: str) -> bool:
        return any(s.pair == pair and s.on_server for s in self._settings)

    def _co_located(self, pair: str) -> bool:
        return any(s.pair == pair and s.method is Method.CO_LOCATED for s in self._settings)

    def _find_server(self, pair: str) -> None:
        """Start the server of a pair, or look what one that runs elsewhere has before anything is loaded here."""
        if self._options.server is None:
            self._started[pair] = self._stack.enter_context(Child("server", self._server_arguments(pair)))
            return
        self._servers[pair] = parse_address(self._options.server)
        self.served[pair] = ask_for(self._pairs[pair], self._servers[pair], self._co_located(pair))

    def _server_arguments(self, pair: str) -> list[str]:
        options, spec = self._options, self._pairs[pair]
        arguments = ["serve", "--pair", pair, "--target", str(spec.folder("target")), "--listen", str(LOCAL)]
        arguments += ["--device", options.device, "--dtype", self._dtype_here(pair), "--threads", str(options.threads)]
        if options.quantize:
            arguments += ["--quantize", options.quantize]
        if self._co_located(pair):
            arguments += ["--with-draft", "--draft", str(spec.folder("draft"))]
        return arguments

    def _load_drafts(self) -> None:
        import torch

        from aiflow_cli.models.vlm import VisionLanguageModel
        from aiflow_cli.node.device import Device

        options = self._options
        torch.set_num_threads(options.threads)
        for name, spec in self._pairs.items():
            folder = spec.folder("draft")
            model = VisionLanguageModel.from_folder(folder, options.device, self._dtype_here(name), options.quantize)
            model.check_request(options.prompt or spec.question, options.max_new_tokens or spec.max_new_tokens)
            self._devices[name] = Device(model)

    def _connect(self, setting: Setting, place: placement.Placement) -> None:
        key = (setting.pair, setting.link)
        if not setting.on_server or key in self._connections:
            return
        address = self._relayed(key, place)
        with self._explained(*self._between(key)):
            connection = self._stack.enter_context(Connection(address, self._servers[setting.pair]))
            connection.greet(self._devices[setting.pair].model.fingerprint)
        self._connections[key] = connection

    def _relayed(self, key: _Key, place: placement.Placement) -> Address:
        """Where to connect: a relay, started here, or the server itself if nothing is shaped."""
        server, link = self._servers[key[0]], key[1]
        if link.unlimited:
            return server
        child = self._stack.enter_context(Child("link", ["link", "--to", str(server), *link_options(link)]))
        self._relays[key] = child
        address = child.ready()
        placement.pin(place.link, child.pid)
        return address

    def _between(self, key: _Key) -> list[Child]:
        """The processes started here that a connection goes through: its relay, its server."""
        return [child for child in (self._relays.get(key), self._started.get(key[0])) if child is not None]

    @contextlib.contextmanager
    def _explained(self, *children: Child) -> Iterator[None]:
        """Have a broken link told with the last words of the processes that it goes through; those started elsewhere say them there."""
        try:
            yield
        except LinkError as error:
            if not (isinstance(error, PeerGone) or STANDARD_ERROR in str(error)):
                raise  # the server has said it all
            words = [said for child in children if (said := child.last_words(str(error)))]
            if not words and self._options.server is not None and STANDARD_ERROR not in str(error):
                words = [f"what it says itself is on its {STANDARD_ERROR}"]
            raise LinkError(f"{error}: {'; '.join(words)}" if words else str(error)) from error

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
        with self._explained(*self._between((setting.pair, setting.link))):
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
