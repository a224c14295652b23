"""The tokenizer of the small pair: sentencepiece BPE over captions, set up as InternLM2's is.

No normalisation, no dummy prefix, byte fallback. Pieces may join a word and its comma, so that the words of a caption
are one token each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from aiflow_cli.training.sizes import ADDED_TOKENS, BOS_ID, EOS_ID, QUESTION

VOCABULARY_LIMIT = 640


def train_tokenizer(captions: Iterable[str], folder: Path) -> int:
    """Train on `captions` and write the tokenizer's three files to `folder`; its size with the added tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*captions, *[QUESTION] * 100]),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=VOCABULARY_LIMIT,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_by_unicode_script=False,
        character_coverage=1.0,
        bos_id=BOS_ID,
        eos_id=EOS_ID,
        unk_id=0,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    pieces: int = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).get_piece_size()
    added = {token: pieces + k for k, token in enumerate(ADDED_TOKENS)}
    config = {
        "tokenizer_class": "InternLM2Tokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "added_tokens_decoder": {str(index): {"content": token, "special": True} for token, index in added.items()},
    }
    for name, document in (("added_tokens", added), ("tokenizer_config", config)):
        (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    return pieces + len(ADDED_TOKENS)


class Words:
    """The tokenizer of the small pair while it is in training: captions to ids and back, and the prompt."""

    def __init__(self, folder: Path) -> None:
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        self._added: dict[str, int] = json.loads((folder / "added_tokens.json").read_text())
        self.vocab_size = self.pieces.get_piece_size() + len(self._added)
        self.image_token_id = self._added["<IMG_CONTEXT>"]

    def prompt(self, image_tokens: int) -> list[int]:
        """Ids before the caption (the template "aiflow-small" of `models/prompt.py`)."""
        image = [self._added["<img>"], *[self.image_token_id] * image_tokens, self._added["</img>"]]
        return [self.pieces.bos_id(), *image, *self.pieces.encode(QUESTION), self._added["<|im_end|>"]]

    def encode(self, caption: str) -> list[int]:
        """Ids of a caption with the end token."""
        return [*self.pieces.encode(caption), EOS_ID]

    def decode(self, ids: list[int]) -> str:
        """The caption of ids, without the end token and the added ones, which a model in training may still say."""
        text: str = self.pieces.decode([i for i in ids if i != EOS_ID and i < self.pieces.get_piece_size()])
        return text
