"""What a server says that it runs, which is what a result records, and whether that is what a run names.

The target may lie on the server's machine alone. Where it is here too, files are compared by their hash, else by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

import aiflow_cli
from aiflow_cli.errors import AiflowError, UsageError
from aiflow_cli.link.address import Address, parse_address
from aiflow_cli.models.pair import PairSpec
from aiflow_cli.text import printable
from aiflow_cli.trials import fingerprint
from aiflow_cli.trials.fingerprint import Fingerprints, shown
from aiflow_cli.wire.messages import MAX_NAME_CHARACTERS, Served
from aiflow_cli.world.live import ask


def describe_here(
    target: Path, draft: Path | None, device: str, dtype: str, quantize: str | None, threads: int
) -> Served:
    """What a server in this process tells; `target` and `draft` are the folders of what it has loaded."""
    cpu, gpu = fingerprint.cpu(), fingerprint.gpu()
    return Served(
        target=_called(target),
        target_sha256=fingerprint.checkpoint(target),
        draft=_called(draft) if draft else None,
        draft_sha256=fingerprint.checkpoint(draft) if draft else None,
        device=_text(device),
        dtype=dtype,
        quantize=quantize,
        threads=threads,
        aiflow=aiflow_cli.__version__,
        code_sha256=fingerprint.code(),
        cpu=_text(cpu["model"]),
        cores=cpu["usable_cores"],
        gpu=_text(gpu["name"]) if gpu else None,
    )


def _text(value: str) -> str:
    """`value` as it can cross the link: a folder's name need be neither text nor printable."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in printable(value))[:MAX_NAME_CHARACTERS]


def _called(folder: Path) -> str:
    from aiflow_cli.models.hub import display_name

    return _text(display_name(folder.absolute()))


def check_served(pair: PairSpec, served: Served, address: Address, co_located: bool) -> None:
    """Raise UsageError unless a server runs the target of `pair`, and for co-located its draft model too."""
    if co_located and served.draft is None:
        raise UsageError(
            f"the server at {address} has no draft model, which co-located needs: "
            f"start it with `aiflow serve --pair {pair.name} --with-draft`, or leave co-located out"
        )
    for role in ("target", "draft") if co_located else ("target",):
        name, sha256 = getattr(served, role), getattr(served, f"{role}_sha256")
        folder, repository = folder_here(pair, role), pair.repository(role)
        wanted = repository.id.rpartition("/")[2] if repository else _called(Path(pair.place(role)))
        ours = fingerprint.checkpoint(folder) if folder else None
        if ours != sha256 and (ours is not None or name != wanted):
            raise UsageError(
                f"the server at {address} runs the {role} {name} ({shown(sha256)}), this run names {wanted} "
                f"({shown(ours or 'not on this machine')}): give the same --pair or --{role} on both sides"
            )


def folder_here(pair: PairSpec, role: str) -> Path | None:
    """Where the draft or the target of a pair is on this machine, if it is."""
    try:
        return pair.folder(role)
    except AiflowError:
        return None


def pair_document(pair: PairSpec, served: Served | None = None) -> dict[str, Any]:
    """A pair in run.json; of its server it has what that `served`: the target that ran, and how and on what."""
    told = {"name": pair.name, "about": pair.about, "draft": Path(pair.draft).name, "target": Path(pair.target).name}
    if served is None:
        return told
    prints = fingerprint.pair(pair, served.target_sha256)
    return told | {"target": served.target, "fingerprint": prints, "server": msgspec.structs.asdict(served)}


def what_runs(pairs: Mapping[str, PairSpec], server: str | None, co_located: bool) -> Fingerprints:
    """Fingerprints of pairs, code and machines; those of a `server` elsewhere and its target as it tells them. Raises
    LinkError if none is there, UsageError if it is not for the pair.
    """
    if server is None:
        return fingerprint.of_trials(pairs)
    (pair,), address = pairs.values(), parse_address(server)
    served = ask(address)
    check_served(pair, served, address, co_located)
    kind = " ".join(filter(None, [served.dtype, served.quantize]))
    machine = f"{served.cpu}, {served.cores} cores, {served.gpu or 'no GPU'}"
    program = f"aiflow {served.aiflow} ({shown(served.code_sha256)})"
    told = f"{kind} on {served.device} with {served.threads} threads, {machine}, {program}"
    return fingerprint.of_trials(pairs, served.target_sha256) | {"server": told}
