"""`aiflow download`: the 627 photographs of Vehicles-OpenImage, checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiflow_cli.cli.options import Json, path_option
from aiflow_cli.cli.output import note, print_json, say
from aiflow_cli.cli.progress import display

if TYPE_CHECKING:
    from aiflow_cli.images.download import DownloadReport

_NAMED = 40
EXAMPLES = """\
aiflow download                                  all 627 from Open Images, unresized, no account
aiflow download --limit 16 --attribution         a few, and who made them
aiflow download --source ~/Downloads/export.zip  the 416 x 416 export, from a zip or a folder
"""
_SOURCE = "openimages, roboflow (ROBOFLOW_API_KEY), kaggle, or a folder or zip."
_OUTPUT = "Folder for the photographs. (default: data/vehicles-openimage)"


def download(
    *,
    source: Annotated[str, typer.Option("--source", "-s", help=_SOURCE)] = "openimages",
    output: Annotated[Path | None, path_option(_OUTPUT)] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first N photographs.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Requests at a time.")] = 8,
    attribution: Annotated[bool, typer.Option("--attribution", help="Also write author and licence of each.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Fetch all anew, also what was not found before.")] = False,
    json_: Json = False,
) -> None:
    """Download the photographs of Vehicles-OpenImage; what is there already is checked and kept."""
    from aiflow_cli.images import download as library
    from aiflow_cli.images.vehicles import data_folder

    folder = output or data_folder()
    with display() as show:
        report = library.download(source, folder, limit=limit, jobs=jobs, force=force, progress=show, tell=note)
    document, failed = report.as_json(), bool(report.missing)
    if not json_:
        _print(report)
    try:
        if attribution:
            with display() as show:
                credits_ = library.download_attributions(folder, limit=limit, force=force, progress=show, tell=note)
            document["attribution"], failed = credits_.as_json(), failed or bool(credits_.missing)
            if not json_:
                known = credits_.wanted - len(credits_.missing)
                say(f"author and licence of {known} of {credits_.wanted} in {credits_.file}")
                if credits_.missing:
                    note(f"not in Open Images' tables: {' '.join(credits_.missing)}")
    finally:  # an attribution that fails does not hide what became of the photographs
        if json_:
            print_json(document)
    if failed:
        raise typer.Exit(1)


def _print(report: DownloadReport) -> None:
    mixed = len(report.kinds) > 1
    kinds = "".join(f"{f'{n} ' if mixed else ''}{kind}, " for kind, n in report.kinds.items())
    say(f"{report.present} of {report.wanted} photographs in {report.folder} ({kinds}{report.fetched} new)")
    for reason in dict.fromkeys(report.missing.values()):
        image_ids = [image_id for image_id, why in report.missing.items() if why == reason]
        more = f" and {len(image_ids) - _NAMED} more (--json names all)" if len(image_ids) > _NAMED else ""
        note(f"missing {len(image_ids)}, {reason}: {' '.join(image_ids[:_NAMED])}{more}")
    if report.missing:
        note("run the same command again to fetch only these (with --force, also those not found)")
    if mixed:
        note("warning: both forms of the data set are in one folder; --force fetches all from one source")
    elif report.in_other_form:
        note(f"note: they were there already, in the other form than {report.source} gives; --force fetches from it")
