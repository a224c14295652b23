"""The tokenizer of the small pair: sentencepiece BPE over captions, set up as InternLM2's is.

No normalisation, no dummy prefix, byte fallback. Pieces may join a word and its comma, so that the words of a caption are one token each.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from aiflow_cli.training.sizes import ADDED_TOKENS, BOS_ID, EOS_ID, QUESTION

VOCABULARY_LIMIT = 640


def train_tokenizer(captions: Iterable[str], folder: Path) -> int:
    """Train on `captions` and write tokenizer.model, added_tokens.json and tokenizer_config.json; returns the size with added tokens."""
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
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).get_piece_size()
    added = {token: pieces + k for k, token in enumerate(ADDED_TOKENS)}
    (folder / "added_tokens.json").write_text(json.dumps(added, indent=2) + "\n")
    decoder = {str(index): {"content": token, "special": True} for token, index in added.items()}
    config = {
        "tokenizer_class": "InternLM2Tokenizer",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "added_tokens_decoder": decoder,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return pieces + len(ADDED_TOKENS)
