"""`aiflow pull`: model weights from the Hugging Face hub, verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiflow_cli.cli.options import Draft, Json, Target
from aiflow_cli.cli.output import note, present, say
from aiflow_cli.cli.progress import progress

if TYPE_CHECKING:
    from aiflow_cli.models.hub import Repository

EXAMPLES = """\
aiflow pull internvl2-2b-26b                  the paper's pair, 55 GB
aiflow pull internvl2-2b-26b --dry-run        what it would fetch
aiflow pull OpenGVLab/InternVL2_5-2B          one model; OWNER/NAME@COMMIT pins it
"""
_PAIR = "A pair of the registry (`aiflow pairs list`), or a hub id OWNER/NAME."


def pull(
    pair: Annotated[str, typer.Argument(help=_PAIR)],
    draft: Draft = None,
    target: Target = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be fetched.")] = False,
    json_: Json = False,
) -> None:
    """Fetch the weights of a pair; what is here already is kept, and what broke off goes on where it stopped.

    HF_HOME is where weights are kept, HF_TOKEN gives access to gated ones, HF_HUB_OFFLINE=1 fetches nothing.
    """
    models = [_model(repository, dry_run) for repository in _repositories(pair, draft, target)]
    lines = [_line(model) for model in models] or [f"pair {pair} ships with the package: there is nothing to fetch"]
    present(json_, {"schema_version": 1, "pair": pair, "models": models}, lambda: say("\n".join(lines)))


def _repositories(name: str, draft: str | None, target: str | None) -> list[Repository]:
    """What of a pair (or which single model) lies on the hub."""
    from aiflow_cli.models.hub import Repository
    from aiflow_cli.models.pair import find_pair, registry

    if name not in registry() and (single := Repository.parse(name)):
        return [single]
    spec = find_pair(name, draft, target)
    found = {role: spec.repository(role) for role in ("draft", "target")}
    for role, repository in found.items():
        if repository is None:
            spec.folder(role)  # a folder that is not there is no folder with nothing to fetch
    return [repository for repository in found.values() if repository]


def _model(repository: Repository, dry_run: bool) -> dict[str, Any]:
    from huggingface_hub import constants

    from aiflow_cli.models import hub, internvl2
    from aiflow_cli.models.pull import pull as fetch

    if constants.HF_HUB_OFFLINE and (folder := hub.cached_folder(repository)):
        return {"repository": str(repository), "commit": folder.name, "folder": str(folder), "fetched_bytes": 0}
    plan = hub.make_plan(repository)
    found: dict[str, Any] = {"repository": str(repository), "commit": plan.commit, "total_bytes": plan.total_bytes}
    if dry_run:
        return found | {"missing_bytes": plan.missing_bytes, "folder": None}
    with progress(f"pulling {repository} (MB)", round(plan.total_bytes / 1e6)) as advance:
        fetched_bytes = fetch(plan, lambda done: advance(round(done / 1e6)), tell=note)
    internvl2.check_folder(plan.snapshot)
    return found | {"fetched_bytes": fetched_bytes, "folder": str(plan.snapshot)}


def _line(model: dict[str, Any]) -> str:
    at = f"{model['repository']} at commit {model['commit'][:12]}"
    if model["folder"] is None:
        return f"{at}: {model['missing_bytes'] / 1e9:.2f} of {model['total_bytes'] / 1e9:.2f} GB to fetch"
    return f"{at}: {model['fetched_bytes'] / 1e9:.2f} GB fetched, checked, in {model['folder']}"
