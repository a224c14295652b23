"""`aiflow link`: the shaped link by itself, for any TCP client."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from aiflow_cli.cli import options
from aiflow_cli.cli.errors import stopped_by_signals
from aiflow_cli.cli.output import say
from aiflow_cli.units import parse_duration, parse_rate, parse_size

EXAMPLES = "aiflow link --listen 127.0.0.1:7001 --to 127.0.0.1:7000 --rate 1MB/s --delay 10ms"


def link(
    to: Annotated[str, typer.Option("--to", help="The server, where connections go on to: HOST:PORT.")],
    listen: options.Listen = "127.0.0.1:0",
    rate: options.Rate = "1MB/s",
    uplink: options.Uplink = None,
    downlink: options.Downlink = None,
    burst: options.Burst = "10KB",
    delay: options.Delay = "0",
    parent: options.Parent = None,
) -> None:
    """Relay TCP connections through a token bucket in each direction, until interrupted.

    Rates and delay are of the application's bytes. Prints one JSON line when it listens, and one with what passed when
    it ends.
    """
    from aiflow_cli.link.address import parse_address
    from aiflow_cli.link.relay import Relay
    from aiflow_cli.link.spec import LinkSpec
    from aiflow_cli.node.process import die_with_parent

    spec = LinkSpec(parse_rate(uplink or rate), parse_rate(downlink or rate), parse_size(burst), parse_duration(delay))
    relay = Relay(parse_address(listen), parse_address(to), spec)
    die_with_parent(parent)
    stopped = stopped_by_signals()
    say(json.dumps({"listening": str(relay.address)}))
    try:
        relay.run(stopped)
    finally:
        relay.close()
        say(json.dumps(asdict(relay.counts)))
