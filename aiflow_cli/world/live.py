"""The live world: a server process for each target, a relay for each shaped link, and the draft models in this process.

    device (this process) --- relay (`aiflow link`) --- server (`aiflow serve`)

Everything is started by entering a `LiveWorld` and ended by leaving it; `trial` then makes one response.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from aiflow_cli.decoding.device import Task
from aiflow_cli.decoding.exact import DEFAULT_BOUND
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import LinkError
from aiflow_cli.link.address import Address, parse_address
from aiflow_cli.link.spec import LinkSpec
from aiflow_cli.node import placement
from aiflow_cli.node.connection import Connection
from aiflow_cli.node.process import Child
from aiflow_cli.node.stream import PeerGone
from aiflow_cli.wire.messages import Picture, Served
from aiflow_cli.world.conditions import Conditions
from aiflow_cli.world.record import Link, Setting, Trial, now
from aiflow_cli.world.recorder import Recorder

if TYPE_CHECKING:
    from aiflow_cli.models.pair import PairSpec
    from aiflow_cli.models.vlm import VisionLanguageModel
    from aiflow_cli.node.device import Device

_Key = tuple[str, Link]
"""A pair and a link: what has a connection of its own."""
LOCAL = "127.0.0.1:0"
STANDARD_ERROR = "standard error"
"""A server that failed says that more is there, which nobody can read of a server that was started here."""


class LiveWorld(contextlib.ExitStack):
    """Models and processes that a set of settings needs. A context manager; `trial` may be called within it.

    `served` is what the server of each pair says that it runs, once it is entered. Raises what starting can raise:
    UsageError, PrerequisiteError, CheckpointError, LinkError.
    """

    def __init__(self, pairs: Mapping[str, PairSpec], settings: Iterable[Setting], conditions: Conditions) -> None:
        """Nothing is started yet."""
        super().__init__()
        self._pairs, self._settings, self._conditions = dict(pairs), list(settings), conditions
        self.served: dict[str, Served] = {}
        self._servers: dict[str, Child] = {}
        self._relays: dict[tuple[str, Link | None], Child] = {}
        self._connections: dict[_Key, Connection] = {}
        self._devices: dict[str, Device] = {}
        self._requests = itertools.count(1)

    def __enter__(self) -> Self:
        """Start servers, load drafts meanwhile, start relays, connect."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def draft(self, pair: str) -> VisionLanguageModel:
        """The draft model of a pair, as it was loaded."""
        return self._devices[pair].model

    def _start(self) -> None:
        conditions = self._conditions
        place = placement.plan(placement.available(), conditions.threads, conditions.on_gpu)
        on_server = [name for name in self._pairs if self._methods(name) - {Method.ON_DEVICE}]
        if conditions.server is None:
            self._start_servers(on_server)
        self._load_drafts()
        for server in dict.fromkeys(self._servers.values()):
            server.ready()
            placement.pin(place.server, server.pid)
        for name in on_server:
            with self._explained(name):
                self.served[name] = ask(self._address(name))
        for key in dict.fromkeys((setting.pair, setting.link) for setting in self._settings if setting.on_server):
            self._connect(key, place.link)
        if place.device:
            before = placement.available()
            placement.pin(place.device)
            self.callback(placement.pin, before)

    def _methods(self, pair: str) -> set[Method]:
        return {setting.method for setting in self._settings if setting.pair == pair}

    def _address(self, pair: str) -> Address:
        elsewhere = self._conditions.server
        return self._servers[pair].address if elsewhere is None else parse_address(elsewhere)

    def _start_servers(self, pairs: Iterable[str]) -> None:
        """A server for each target, and for all pairs over it that need no other draft there."""
        conditions, started = self._conditions, dict[tuple[Path, str, Path | None], Child]()
        drafting = {pair for pair in pairs if Method.CO_LOCATED in self._methods(pair)}
        for pair in sorted(pairs, key=lambda pair: pair not in drafting):
            spec = self._pairs[pair]
            target, dtype = spec.folder("target"), conditions.dtype_of(spec, conditions.target_device)
            there = [draft for *known, draft in started if known == [target, dtype]]
            key = target, dtype, spec.folder("draft") if pair in drafting else next(iter(there), None)
            if key not in started:
                started[key] = self._serve(pair, *key)
            self._servers[pair] = started[key]

    def _serve(self, pair: str, target: Path, dtype: str, draft: Path | None) -> Child:
        conditions = self._conditions
        arguments = ["serve", "--pair", pair, "--target", str(target), "--listen", LOCAL, "--dtype", dtype]
        arguments += ["--device", conditions.target_device, "--threads", str(conditions.threads)]
        arguments += ["--quantize", conditions.quantize] if conditions.quantize else []
        arguments += ["--with-draft", "--draft", str(draft)] if draft else []
        return self.enter_context(Child("server", arguments))

    def _load_drafts(self) -> None:
        import torch

        from aiflow_cli.models.vlm import VisionLanguageModel
        from aiflow_cli.node.device import Device

        conditions = self._conditions
        torch.set_num_threads(conditions.threads)
        for name, spec in self._pairs.items():
            dtype = conditions.dtype_of(spec, conditions.device)
            model = VisionLanguageModel.from_folder(spec.folder("draft"), conditions.device, dtype, conditions.quantize)
            model.check_request(conditions.question(spec), conditions.longest_answer(spec))
            self._devices[name] = Device(model)

    def _connect(self, key: _Key, cores: frozenset[int]) -> None:
        """By way of a relay, which is started here and runs on `cores`, unless nothing is shaped."""
        pair, link = key[0], key[1].spec
        server = address = self._address(pair)
        if not link.unlimited:
            relay = Child("link", ["link", "--to", str(server), *link_options(link)])
            self._relays[key] = self.enter_context(relay)
            address = relay.ready()
            placement.pin(cores, relay.pid)
        with self._explained(*key):
            self._connections[key] = self.enter_context(Connection(address, server))
            self._connections[key].greet(self._devices[pair].model.fingerprint)

    @contextlib.contextmanager
    def _explained(self, pair: str, link: Link | None = None) -> Iterator[None]:
        """Have a broken link told with the last words of the processes here that it goes through: relay and server."""
        try:
            yield
        except LinkError as error:
            on_its_standard_error = STANDARD_ERROR in str(error)
            if not (isinstance(error, PeerGone) or on_its_standard_error):
                raise  # the server has said it all
            children = filter(None, (self._relays.get((pair, link)), self._servers.get(pair)))
            words = [said for child in children if (said := child.last_words(str(error)))]
            if not words and self._conditions.server is not None and not on_its_standard_error:
                words = [f"what it says itself is on its {STANDARD_ERROR}"]
            raise LinkError(f"{error}: {'; '.join(words)}" if words else str(error)) from error

    def trial(self, planned: Trial, image: bytes) -> Trial:
        """Make the response that is planned. Raises LinkError, ProtocolError, ImageError."""
        setting, conditions = planned.setting, self._conditions
        spec, device = self._pairs[setting.pair], self._devices[setting.pair]
        served = self.served.get(setting.pair)
        task = Task(
            request_id=next(self._requests),
            method=setting.method,
            gamma=setting.gamma or 0,
            max_new_tokens=conditions.longest_answer(spec),
            prompt=conditions.question(spec),
            input=Picture(image),
            exact_margin=DEFAULT_BOUND[served.dtype] if conditions.exact and served else 0.0,
        )
        connection = self._connections.get((setting.pair, setting.link)) if setting.on_server else None
        recorder = Recorder(planned.replace(started_at=now()))
        with self._explained(setting.pair, setting.link):
            tokens = device.respond(task, connection, recorder)
        return recorder.trial(device.model.tokenizer.decode(tokens).strip())


def ask(address: Address) -> Served:
    """What the server at `address` runs. Raises LinkError."""
    with Connection(address) as connection:
        return connection.greet(None).served


def link_options(link: LinkSpec) -> list[str]:
    """A link as options of `aiflow link`."""
    uplink, downlink = (
        "unlimited" if math.isinf(rate) else f"{rate:.6f}B/s"
        for rate in (link.uplink_bytes_per_s, link.downlink_bytes_per_s)
    )
    shape = ["--burst", f"{link.burst_bytes}B", "--delay", f"{link.delay_s:.9f}s"]
    return ["--uplink", uplink, "--downlink", downlink, *shape]
