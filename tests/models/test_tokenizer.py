"""The tokenizer id for id as the original slow one, and decoding while text grows."""

from __future__ import annotations

import pytest

from aiflow_cli.models.tokenizer import SentencePieceTokenizer, StreamDecoder, load_tokenizer
from tests.conftest import TinyPair
from tests.models import fixtures


@fixtures.needed
@pytest.mark.parametrize("name", fixtures.MODELS)
def test_every_case(name: str) -> None:
    tokenizer, reference = SentencePieceTokenizer(fixtures.ROOT / name), fixtures.document("tokenizer")
    assert tokenizer.vocab_size == reference["vocab_size"] == 649
    assert tokenizer.bos_id == reference["bos"]
    for case in reference["cases"]:
        assert tokenizer.encode(case["text"]) == case["input_ids"], case["text"]
        assert tokenizer.encode(case["text"], bos=False) == case["input_ids_no_bos"], case["text"]
        assert tokenizer.decode(case["input_ids_no_bos"]) == case["decoded_skip_special"], case["text"]
    for case in reference["decode_cases"]:
        assert tokenizer.decode(case["ids"]) == case["decoded_skip_special"]


@fixtures.needed
def test_special_tokens_stand_where_the_original_has_them() -> None:
    tokenizer = SentencePieceTokenizer(fixtures.ROOT / "tiny-2b")
    assert tokenizer.token_id("<|im_end|>") == 638  # replaces a piece
    assert tokenizer.token_id("<IMG_CONTEXT>") == 642  # stands after all pieces
    assert tokenizer.sha256 == SentencePieceTokenizer(fixtures.ROOT / "tiny-26b").sha256


def test_unfinished_characters_are_held_back(tiny_pair: TinyPair) -> None:
    tokenizer = load_tokenizer(tiny_pair.target)
    text = "ein Büs, 大型 車 🚌 fertig"
    stream = StreamDecoder(tokenizer)
    pieces = [stream.feed([token]) for token in tokenizer.encode(text, bos=False)]
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert "" in pieces


def test_two_tokenizers_have_two_hashes(tiny_pair: TinyPair) -> None:
    target, draft, stranger = (
        load_tokenizer(folder) for folder in (tiny_pair.target, tiny_pair.draft, tiny_pair.stranger)
    )
    assert target.sha256 == draft.sha256 != stranger.sha256
