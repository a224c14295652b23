"""The data set as Roboflow exports it, made of the real photographs."""

from __future__ import annotations

import zipfile
from pathlib import Path

from aiflow_cli.images.vehicles import manifest
from tests.images.bucket_server import real_photos

IDS = list(manifest())


def export(target: Path, limit: int | None = None) -> Path:
    """The export as Roboflow packs it: each photograph twice, under two hashes, beside its labels."""
    photos = real_photos()
    for image_id in IDS[:limit]:
        for suffix in ("0123456789abcdef0123456789abcdef", "AbCdEfGhIjKlMnOpQrSt"):
            file = target / manifest()[image_id].split / "images" / f"{image_id}_jpg.rf.{suffix}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.symlink_to(photos / f"{image_id}.jpg")
    (target / "data.yaml").write_text("nc: 5")
    return target


def packed(folder: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for member in sorted(folder.rglob("*")):
            archive.write(member, Path("Vehicles-OpenImages.v1") / member.relative_to(folder))
    return file
