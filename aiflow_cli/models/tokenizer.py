"""InternVL2's tokenizer: sentencepiece, with the added tokens split off before it.

transformers' own loader gives the added tokens new ids and a leading space; this reads the files as the original slow tokenizer does, id
for id. Added tokens may replace pieces that the model file calls unused, or stand after all of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from aiflow_cli.errors import CheckpointError

_REPLACEMENT = "\ufffd"
"""What each byte of an unfinished character decodes to."""


class Tokenizer:
    """Text to token ids and back.

    `vocab_size` counts pieces and added tokens; `sha256` is over the model file and the added tokens, so two tokenizers with one hash
    mean the same by every id.
    """

    def __init__(self, folder: Path) -> None:
        """Read tokenizer.model, added_tokens.json and tokenizer_config.json of `folder`; raises CheckpointError if they cannot be."""
        path = folder / "tokenizer.model"
        try:
            model = path.read_bytes()
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
            self._pieces.get_piece_size()
        except FileNotFoundError:
            raise CheckpointError(f"{folder} has no tokenizer.model: fetch the checkpoint again") from None
        except RuntimeError:
            raise CheckpointError(f"{path} is not a sentencepiece model: fetch the checkpoint again") from None
        self.added = _added_tokens(folder)
        self.vocab_size = max([self._pieces.get_piece_size(), *(index + 1 for index in self.added.values())])
        digest = hashlib.sha256(model)
        digest.update(json.dumps(sorted(self.added.items())).encode())
        self.sha256 = digest.hexdigest()
        self.bos_id: int = self._pieces.bos_id()
        self.special_ids = frozenset([self.bos_id, self._pieces.eos_id(), *self.added.values()])
        longest_first = sorted(self.added, key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if longest_first else None

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """Ids of `text`, `<s>` first if `bos`; no end token."""
        ids = [self.bos_id] if bos else []
        for part in self._split.split(text) if self._split else [text]:
            if part in self.added:
                ids.append(self.added[part])
            elif part:
                ids += self._pieces.encode(part)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids` without special tokens."""
        known = [i for i in ids if i not in self.special_ids and i < self._pieces.get_piece_size()]
        text: str = self._pieces.decode(known)
        return text

    def token_id(self, token: str) -> int:
        """The id of an added token or a piece; raises CheckpointError if the vocabulary has none."""
        index: int = self.added[token] if token in self.added else self._pieces.piece_to_id(token)
        if index == self._pieces.unk_id() and token not in self.added:
            raise CheckpointError(
                f"the tokenizer has no token {token!r}: it does not belong to an InternVL2 checkpoint"
            )
        return index


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


def _added_tokens(folder: Path) -> dict[str, int]:
    added: dict[str, int] = {}
    try:
        if (config := folder / "tokenizer_config.json").exists():
            decoder = json.loads(config.read_text(encoding="utf-8")).get("added_tokens_decoder", {})
            added |= {entry["content"]: int(index) for index, entry in decoder.items()}
        if (extra := folder / "added_tokens.json").exists():
            added |= {token: int(index) for token, index in json.loads(extra.read_text(encoding="utf-8")).items()}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"the tokenizer files in {folder} cannot be read ({error}): fetch the checkpoint again"
        ) from None
    return added
