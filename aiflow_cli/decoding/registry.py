"""The halves of every method. A new method is a file of its own, a name in `methods.py`, and a line here."""

from __future__ import annotations

from aiflow_cli.decoding import co_located, on_device, server_only, speculative
from aiflow_cli.decoding.halves import DeviceHalf, ServerHalf
from aiflow_cli.decoding.methods import Method

DEVICE: dict[Method, type[DeviceHalf]] = {
    Method.SERVER_ONLY: server_only.Device,
    Method.SPECULATIVE: speculative.Device,
    Method.CO_LOCATED: co_located.Device,
    Method.ON_DEVICE: on_device.Device,
}
SERVER: dict[str, type[ServerHalf]] = {
    Method.SERVER_ONLY.value: server_only.Server,
    Method.SPECULATIVE.value: speculative.Server,
    Method.CO_LOCATED.value: co_located.Server,
}
"""By the name that a request has."""
