"""`aiflow pull`: model weights from the Hugging Face hub, verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from aiflow_cli.models.hub import Repository

EXAMPLES = """Examples:

  aiflow pull internvl2-2b-26b                  the paper's pair, 55 GB

  aiflow pull internvl2-2b-26b --dry-run        what it would fetch

  aiflow pull OpenGVLab/InternVL2_5-2B          one model; OWNER/NAME@COMMIT pins it

HF_HOME is where weights are kept, HF_TOKEN gives access to gated ones, HF_HUB_OFFLINE=1 fetches nothing.
"""


def pull(
    pair: Annotated[str, typer.Argument(help="A pair of the registry (`aiflow pairs list`), or a hub id OWNER/NAME.")],
    draft: Annotated[str | None, typer.Option("--draft", help="Another draft: a hub id.")] = None,
    target: Annotated[str | None, typer.Option("--target", help="Another target: a hub id.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be fetched.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Fetch the weights of a pair; what is here already is kept, and what broke off goes on where it stopped."""
    from aiflow_cli.cli.output import print_json, say

    models = [_model(repository, dry_run) for repository in _repositories(pair, draft, target)]
    if json_:
        print_json({"schema_version": 1, "pair": pair, "models": models})
        return
    for model in models:
        say(_line(model, dry_run))
    if not models:
        say(f"pair {pair} ships with the package: there is nothing to fetch")


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

    from aiflow_cli.cli.output import note
    from aiflow_cli.cli.progress import progress
    from aiflow_cli.models.hub import cached_folder, make_plan
    from aiflow_cli.models.internvl2 import check_folder
    from aiflow_cli.models.pull import pull as fetch

    if constants.HF_HUB_OFFLINE and (folder := cached_folder(repository)):
        return {"repository": str(repository), "commit": folder.name, "folder": str(folder), "fetched_bytes": 0}
    plan = make_plan(repository)
    found: dict[str, Any] = {"repository": str(repository), "commit": plan.commit, "total_bytes": plan.total_bytes}
    if dry_run:
        return found | {"missing_bytes": plan.missing_bytes, "folder": None}
    with progress(f"pulling {repository} (MB)", round(plan.total_bytes / 1e6)) as advance:
        fetched_bytes = fetch(plan, lambda done: advance(round(done / 1e6)), tell=note)
    check_folder(plan.snapshot)
    return found | {"fetched_bytes": fetched_bytes, "folder": str(plan.snapshot)}


def _line(model: dict[str, Any], dry_run: bool) -> str:
    at = f"{model['repository']} at commit {model['commit'][:12]}"
    if dry_run and model["folder"] is None:
        return f"{at}: {model['missing_bytes'] / 1e9:.2f} of {model['total_bytes'] / 1e9:.2f} GB to fetch"
    return f"{at}: {model['fetched_bytes'] / 1e9:.2f} GB fetched, checked, in {model['folder']}"
