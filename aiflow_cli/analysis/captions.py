"""Captions with each token marked: drafted and accepted, or the target's own. Needs the pair's tokenizer."""

from __future__ import annotations

import io
from contextlib import suppress
from itertools import groupby, product
from pathlib import Path
from typing import Literal, NamedTuple

from aiflow_cli.analysis.result import Result
from aiflow_cli.analysis.study import Study
from aiflow_cli.decoding.methods import Method
from aiflow_cli.errors import AiflowError
from aiflow_cli.world.record import Trial

Kind = Literal["accepted", "own"]
THUMBNAIL_PX = 224


class Piece(NamedTuple):
    """A stretch of a caption by who found it: the draft (`accepted`), or the target (`own`: corrections and others)."""

    text: str
    kind: Kind


class MarkedCaption(NamedTuple):
    """One response's caption, and the draft's alone. `pieces` is empty without the tokenizer, `picture` is a JPEG."""

    trial: Trial
    setting: str
    pieces: list[Piece]
    kinds: list[Kind]
    alone: Trial | None
    picture: bytes | None


def token_kinds(trial: Trial) -> list[Kind]:
    """Who found each token of a response, in order."""
    kinds: list[Kind] = ["own"] * trial.first_tokens
    for r in trial.rounds:
        kinds += ["accepted"] * min(r.accepted, r.delivered)
        kinds += ["own"] * (r.delivered - r.accepted)
    return kinds


def pieces_of(trial: Trial, folder: Path) -> list[Piece]:
    """The caption in pieces, by the tokenizer of a checkpoint folder. Raises CheckpointError."""
    from aiflow_cli.models.tokenizer import StreamDecoder, load_tokenizer

    decoder = StreamDecoder(load_tokenizer(folder))
    tokens = [Piece(decoder.feed([token]), k) for token, k in zip(trial.tokens, token_kinds(trial), strict=True)]
    stretches = ((kind, "".join(piece.text for piece in group)) for kind, group in groupby(tokens, lambda p: p.kind))
    return [Piece(text, kind) for kind, text in stretches if text]


def marked_captions(study: Study, count: int) -> list[MarkedCaption]:
    """A few captions of every pair at its best draft length, of the images that its figures are over."""
    folders = {pair: _tokenizer_folder(study.result, pair) for pair in study.result.pairs}
    images = list(dict.fromkeys(trial.image_id for trial in (study.shown[1], *study.main.best.arm.trials)))[:count]
    pictures, found = _pictures(study.result, images), []
    for image_id, curve in product(images, study.over(study.reference_link)):
        arms = (curve.best.arm, study.result.arm(curve.series, Method.ON_DEVICE))
        trial, alone = (next((trial for trial in arm.trials if trial.image_id == image_id), None) for arm in arms)
        if trial is not None:
            kinds, folder = token_kinds(trial), folders[curve.series.pair]
            setting = f"{curve.series.pair}, γ {curve.best.gamma}"
            pieces = _pieces(trial, folder) if folder and len(kinds) == trial.n_tokens else []
            found.append(MarkedCaption(trial, setting, pieces, kinds, alone, pictures.get(image_id)))
    return found


def _pieces(trial: Trial, folder: Path) -> list[Piece]:
    """The pieces; none where another tokenizer gives another caption, or knows no such tokens."""
    try:
        pieces = pieces_of(trial, folder)
    except (AiflowError, IndexError):
        return []
    # an unfinished character at the end is shown by one of two ways to decode only
    told = "".join(piece.text for piece in pieces)
    return pieces if told.rstrip("\ufffd").strip() == trial.caption.rstrip("\ufffd").strip() else []


def _tokenizer_folder(result: Result, pair: str) -> Path | None:
    """Where the pair's draft or target lies on this machine, or None."""
    from aiflow_cli.models.pair import find_pair

    chosen = (result.told("spec").get("checkpoints") or {}).get(pair) or {}
    for role in ("draft", "target"):
        with suppress(AiflowError):
            return find_pair(pair, chosen.get("draft"), chosen.get("target")).folder(role)
    return None


def _pictures(result: Result, images: list[str]) -> dict[str, bytes]:
    """Small JPEGs of the images, if the same data (by fingerprint) are on this machine."""
    from aiflow_cli.images.source import open_images
    from aiflow_cli.models.picture import decode

    spec, found = result.told("spec"), dict[str, bytes]()
    with suppress(AiflowError, OSError, KeyError, TypeError):  # a result may be read where its images are not
        source = open_images(str(spec["data"]), spec.get("images"), int(spec.get("seed", 0)))
        same = source.fingerprint == result.told("data").get("fingerprint")
        for image in (image for image in source if same and image.image_id in images):
            small = decode(image.data).rgb
            small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=85)
            found[image.image_id] = buffer.getvalue()
    return found
