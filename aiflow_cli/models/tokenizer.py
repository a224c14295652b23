"""Tokenizers of checkpoints, behind one interface: text to ids and back.

InternLM2's (2B, 8B, 26B of InternVL2, and the pair that ships) is sentencepiece with the added tokens split off before
it. transformers' own loader gives the added tokens new ids and a leading space; `SentencePieceTokenizer` reads the
files as the original slow tokenizer does, id for id. Added tokens may replace pieces that the model file calls unused,
or stand after all of them. The other members, and checkpoints in transformers' layout, have tokenizers that
transformers itself reads (`TransformersTokenizer`: Qwen2 with a test; Llama 3, Yi and Phi-3 without one).
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece

from aiflow_cli.errors import AiflowError, CheckpointError
from aiflow_cli.models.files import is_sentencepiece, read_json, tokenizer_files
from aiflow_cli.models.quiet import quiet_transformers
from aiflow_cli.text import one_line

_REPLACEMENT = "\ufffd"
"""What each byte of an unfinished character decodes to."""


class Tokenizer:
    """Text to token ids and back. Two tokenizers with one `sha256` mean the same by every id."""

    ids: dict[str, int]
    """Of pieces and added tokens."""
    vocab_size: int
    sha256: str
    special_ids: frozenset[int]
    """Ids that have no text."""

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """Ids of `text`, begun as the model's prompts are if `bos`; no end token."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids` without special tokens."""
        raise NotImplementedError

    def token_id(self, token: str) -> int:
        """The id of an added token or a piece; raises CheckpointError if the vocabulary has none."""
        if token not in self.ids:
            said = f"the tokenizer has no token {token!r}"
            raise CheckpointError(f"{said}: it does not belong to an InternVL2 checkpoint")
        return self.ids[token]


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint folder; raises CheckpointError if its files are missing or cannot be read."""
    try:
        tokenizer = SentencePieceTokenizer(folder) if is_sentencepiece(folder) else TransformersTokenizer(folder)
        tokenizer.decode(tokenizer.encode("a red bus"))  # some faults show only when it is used
        return tokenizer
    except (AiflowError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the readers raise what they run into; a panic of theirs is no Exception
        said = f"the tokenizer in {folder} cannot be read ({one_line(error)})"
        raise CheckpointError(f"{said}: fetch the checkpoint again") from error


class SentencePieceTokenizer(Tokenizer):
    """See Tokenizer. `sha256` is over the model file and the added tokens."""

    def __init__(self, folder: Path) -> None:
        files = {path.name: path for path in tokenizer_files(folder)}
        sentencepiece.set_min_log_level(2)  # it warns of a piece that InternLM2's vocabulary has by design
        if "tokenizer.model" not in files:
            raise CheckpointError(f"{folder} has no tokenizer.model: fetch the checkpoint again")
        model = files["tokenizer.model"].read_bytes()
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError:
            said = f"{files['tokenizer.model']} is not a sentencepiece model: fetch the checkpoint again"
            raise CheckpointError(said) from None
        self._size: int = self._pieces.get_piece_size()
        names = ("tokenizer_config.json", "added_tokens.json")
        config, more = (read_json(files[name]) if name in files else {} for name in names)
        added = {entry["content"]: int(index) for index, entry in config.get("added_tokens_decoder", {}).items()}
        self.added = added | {token: int(index) for token, index in more.items()}
        self.ids = {piece: i for i, piece in enumerate(self._pieces.id_to_piece(list(range(self._size))))} | self.added
        self.vocab_size = max(self.ids.values()) + 1
        self.sha256 = hashlib.sha256(model + json.dumps(sorted(self.added.items())).encode()).hexdigest()
        self.bos_id: int = self._pieces.bos_id()
        self.special_ids = frozenset([self.bos_id, self._pieces.eos_id(), *self.added.values()])
        longest_first = sorted(self.added, key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if longest_first else None

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """See Tokenizer; `<s>` begins a prompt."""
        ids = [self.bos_id] if bos else []
        for part in self._split.split(text) if self._split else [text]:
            if part in self.added:
                ids.append(self.added[part])
            elif part:
                ids += self._pieces.encode(part)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """See Tokenizer."""
        text: str = self._pieces.decode([i for i in ids if i not in self.special_ids and i < self._size])
        return text


class TransformersTokenizer(Tokenizer):
    """See Tokenizer: one that transformers reads without remote code (tokenizer.json, or vocab.json and merges.txt).

    `sha256` is over the vocabulary, so the same tokenizer in two file formats is the same tokenizer.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        # From copies of its files alone, without byte order marks: transformers looks for more.
        with quiet_transformers(), tempfile.TemporaryDirectory(prefix="aiflow-tokenizer-") as place:
            for path in tokenizer_files(folder):
                (Path(place) / path.name).write_bytes(path.read_bytes().removeprefix(codecs.BOM_UTF8))
            self._inner: Any = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
        self.ids = self._inner.get_vocab()
        self.vocab_size = max(self.ids.values()) + 1
        self.sha256 = hashlib.sha256(json.dumps(sorted(self.ids.items())).encode()).hexdigest()
        added = (index for index, token in self._inner.added_tokens_decoder.items() if token.special)
        self.special_ids = frozenset([*self._inner.all_special_ids, *added])

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """See Tokenizer; what begins a prompt is the tokenizer's own matter (nothing for Qwen2)."""
        ids: list[int] = self._inner.encode(text, add_special_tokens=bos)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """See Tokenizer."""
        text: str = self._inner.decode([i for i in ids if i not in self.special_ids])
        return text


class StreamDecoder:
    """Text of a growing list of ids: what is complete so far; bytes of an unfinished character are held back."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._ids, self._shown = tokenizer, [0][:0], 0

    def feed(self, ids: Iterable[int]) -> str:
        """The text that `ids` add."""
        self._ids.extend(ids)
        text = self._tokenizer.decode(self._ids)
        complete = text.rstrip(_REPLACEMENT)
        new, self._shown = complete[self._shown :], max(self._shown, len(complete))
        return new
