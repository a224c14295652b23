"""`aiflow link`: the shaped link by itself, for any TCP client."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict
from typing import Annotated

import typer

from aiflow_cli.cli.output import say

EXAMPLES = "aiflow link --listen 127.0.0.1:7001 --to 127.0.0.1:7000 --rate 1MB/s --delay 10ms"


def link(
    to: Annotated[str, typer.Option("--to", help="Where connections go on to: HOST:PORT.")],
    listen: Annotated[
        str, typer.Option("--listen", help="Where to listen: HOST:PORT; port 0 is any free one.")
    ] = "127.0.0.1:0",
    rate: Annotated[
        str, typer.Option("--rate", help="Both directions: 1MB/s, 500KB/s, 8Mbit/s or unlimited.")
    ] = "1MB/s",
    uplink: Annotated[str | None, typer.Option("--uplink", help="From the client to --to; default: --rate.")] = None,
    downlink: Annotated[
        str | None, typer.Option("--downlink", help="From --to to the client; default: --rate.")
    ] = None,
    burst: Annotated[str, typer.Option("--burst", help="What the bucket holds, full at the start.")] = "10KB",
    delay: Annotated[str, typer.Option("--delay", help="One way.")] = "0",
    parent: Annotated[int | None, typer.Option("--parent", hidden=True)] = None,
) -> None:
    """Relay TCP connections through a token bucket in each direction, until interrupted.

    Rates and delay are of the application's bytes. Prints one JSON line when it listens, and one with what passed when
    it ends.
    """
    from aiflow_cli.link.address import parse_address
    from aiflow_cli.link.relay import Relay
    from aiflow_cli.link.spec import LinkSpec
    from aiflow_cli.node.process import die_with_parent
    from aiflow_cli.units import parse_duration, parse_rate, parse_size

    spec = LinkSpec(parse_rate(uplink or rate), parse_rate(downlink or rate), parse_size(burst), parse_duration(delay))
    relay = Relay(parse_address(listen), parse_address(to), spec)
    die_with_parent(parent)
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: stopped.append(got))
    say(json.dumps({"listening": str(relay.address)}))
    try:
        relay.run(lambda: bool(stopped))
    finally:
        relay.close()
        say(json.dumps(asdict(relay.counts)))
