"""Captions with each token marked: drafted and accepted, or the target's own. Needs the pair's tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from aiflow_cli.analysis import metrics
from aiflow_cli.analysis.metrics import Record
from aiflow_cli.analysis.result import ON_DEVICE, SPECULATIVE, Result, Series
from aiflow_cli.analysis.study import Study
from aiflow_cli.errors import AiflowError

Kind = Literal["accepted", "own"]
THUMBNAIL_PX = 224


class Piece(NamedTuple):
    """A stretch of a caption by who found its tokens: the draft (`accepted`), or the target (`own`: correction, bonus or first token)."""

    text: str
    kind: Kind


@dataclass(frozen=True)
class MarkedCaption:
    """One response's caption. `pieces` is empty where the tokenizer is not here; `picture` is a JPEG, or None where the image is not."""

    image_id: str
    setting: str
    caption: str
    pieces: list[Piece]
    accepted: int
    tokens: int
    draft_alone: str | None
    picture: bytes | None


def token_kinds(record: Record) -> list[Kind]:
    """Who found each token of a response, in order."""
    kinds: list[Kind] = ["own"] * metrics.first_delivery_tokens(record)
    for r in record["rounds"]:
        accepted = min(r["accepted"], r["delivered"])
        kinds += ["accepted"] * accepted
        kinds += ["own"] * (r["delivered"] - accepted)
    return kinds


def pieces_of(record: Record, folder: Path) -> list[Piece]:
    """The caption in pieces, by the tokenizer of a checkpoint folder. Raises CheckpointError."""
    from aiflow_cli.models.tokenizer import StreamDecoder, load_tokenizer

    decoder = StreamDecoder(load_tokenizer(folder))
    pieces: list[Piece] = []
    for token, kind in zip(record["tokens"], token_kinds(record), strict=True):
        text = decoder.feed([token])
        if pieces and pieces[-1].kind == kind:
            pieces[-1] = Piece(pieces[-1].text + text, kind)
        else:
            pieces.append(Piece(text, kind))
    return [piece for piece in pieces if piece.text]


def marked_captions(study: Study, count: int) -> list[MarkedCaption]:
    """A few captions of every pair at its best draft length, over the images shown first."""
    folders = {pair: _tokenizer_folder(study.result, pair) for pair in study.result.pairs}
    images = list(dict.fromkeys([study.shown[1]["image_id"], *(r["image_id"] for r in study.result.records)]))[:count]
    pictures = _pictures(study.result, images)
    found = []
    for image_id in images:
        for curve in study.over(study.reference_link):
            records = study.result.trials(curve.series, SPECULATIVE, curve.best.gamma)
            record = next((r for r in records if r["image_id"] == image_id), None)
            if record is not None:
                label = f"{curve.series.pair}, γ {curve.best.gamma}"
                found.append(
                    _marked(study, curve.series, record, label, folders[curve.series.pair], pictures.get(image_id))
                )
    return found


def _marked(
    study: Study, series: Series, record: Record, label: str, folder: Path | None, picture: bytes | None
) -> MarkedCaption:
    kinds = token_kinds(record)
    alone = next((r for r in study.result.trials(series, ON_DEVICE) if r["image_id"] == record["image_id"]), None)
    pieces: list[Piece] = []
    if folder is not None and len(kinds) == len(record.get("tokens") or ()):
        try:
            pieces = pieces_of(record, folder)
        except (AiflowError, IndexError):
            pieces = []  # not the tokenizer of these ids: the caption alone is shown
    caption = str(record.get("caption", ""))
    return MarkedCaption(
        image_id=record["image_id"],
        setting=label,
        caption=caption,
        pieces=pieces if _same("".join(piece.text for piece in pieces), caption) else [],
        accepted=kinds.count("accepted"),
        tokens=len(kinds),
        draft_alone=None if alone is None else str(alone.get("caption", "")),
        picture=picture,
    )


def _same(text: str, caption: str) -> bool:
    """Whether two decodings agree, but for an unfinished character at the end, which only one of them shows."""
    return text.rstrip("\ufffd").strip() == caption.rstrip("\ufffd").strip()


def _tokenizer_folder(result: Result, pair: str) -> Path | None:
    """Where the pair's draft lies on this machine, or None."""
    from aiflow_cli.models.pair import find_pair

    settings = result.settings
    chosen = (settings.get("checkpoints") or {}).get(pair) or settings
    for role in ("draft", "target"):
        try:
            return find_pair(pair, chosen.get("draft"), chosen.get("target")).folder(role)
        except AiflowError:
            continue
    return None


def _pictures(result: Result, images: list[str]) -> dict[str, bytes]:
    """Small JPEGs of the images, if the same data (by fingerprint) are on this machine."""
    try:
        return dict(_thumbnails(result, images))
    except (AiflowError, OSError, KeyError, TypeError):
        return {}  # a result may be read where its images are not


def _thumbnails(result: Result, images: list[str]) -> Iterator[tuple[str, bytes]]:
    from aiflow_cli.images.source import open_images

    settings, data = result.settings, result.document.get("data") or {}
    source = open_images(str(settings["data"]), settings.get("images"), int(settings.get("seed", 0)))
    if source.fingerprint != data.get("fingerprint"):
        return
    for image in source:
        if image.image_id in images:
            yield image.image_id, _thumbnail(image.data)


def _thumbnail(data: bytes) -> bytes:
    import io

    from aiflow_cli.models.picture import decode

    small = decode(data).rgb
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
