"""Text, ids and bytes, with GPT-2's own vocabulary."""

import concurrent.futures
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from nextok_server.tokenizer import TextToken, Tokenizer

DEMO = Path(__file__).parents[2] / "export" / "nextok_export" / "demo"
END_OF_TEXT = 50256


def backend() -> tokenizers.Tokenizer:
    model = tokenizers.models.BPE.from_file(str(DEMO / "vocab.json"), str(DEMO / "merges.txt"))
    built = tokenizers.Tokenizer(model)
    built.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = tokenizers.decoders.ByteLevel()
    built.add_special_tokens(["<|endoftext|>"])
    return built


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    built = backend()
    # Neither may reach the ids: the server wants the text as it is.
    built.enable_truncation(3)
    built.enable_padding(length=8)
    path = tmp_path_factory.mktemp("artifact") / "tokenizer.json"
    built.save(str(path))
    return Tokenizer.from_file(path)


def test_the_notebooks_sentence_has_its_five_ids(tokenizer):
    ids = tokenizer.encode("I love Generative AI")
    assert ids == [40, 1842, 2980, 876, 9552]
    assert [tokenizer.token_text(token) for token in ids] == [
        "I",
        " love",
        " Gener",
        "ative",
        " AI",
    ]


def test_end_of_text_in_a_text_is_the_special_token(tokenizer):
    assert tokenizer.encode("a<|endoftext|>b") == [64, END_OF_TEXT, 65]
    assert tokenizer.token_bytes(END_OF_TEXT) == b"<|endoftext|>"
    assert tokenizer.encode("") == []


def test_every_byte_is_the_bytes_of_one_token(tokenizer):
    assert tokenizer.vocabulary_size == 50257
    single = [tokenizer.token_bytes(token) for token in range(256)]
    assert sorted(single) == [bytes([byte]) for byte in range(256)]
    assert all(tokenizer.token_bytes(token) for token in range(50257))


def test_ids_that_only_the_model_has_stand_for_no_bytes(tokenizer):
    assert tokenizer.token_bytes(50300) == b""
    assert tokenizer.token_text(50300) == ""
    place = tokenizer.locate([40, 50300, 40])[1]
    assert place == TextToken(50300, "", b"", 1, 1, 1, 1)


@given(st.text())
def test_bytes_of_the_tokens_are_the_texts_own(tokenizer, text):
    decoded, data = tokenizer.decode(tokenizer.encode(text))
    assert data == text.encode()
    assert decoded == text


def naive_places(pieces: list[bytes]) -> list[tuple[int, int, int, int]]:
    """Places from what each code point takes off the front of the bytes, tried out."""
    rest = b"".join(pieces)
    text = rest.decode("utf-8", "replace")
    owner: list[int] = []
    for index, character in enumerate(text):
        taken = max(
            size
            for size in range(1, min(4, len(rest)) + 1)
            if rest[:size].decode("utf-8", "replace") == character
            and rest[size:].decode("utf-8", "replace") == text[index + 1 :]
        )
        owner += [index] * taken
        rest = rest[taken:]
    places, start = [], 0
    for piece in pieces:
        end = start + len(piece)
        places.append((start, end, owner[start], owner[end - 1] + 1))
        start = end
    assert len(owner) == start
    return places


@given(st.lists(st.integers(0, 50256) | st.integers(0, 255), max_size=12))
def test_places_are_right_for_any_ids_whatever_their_bytes(tokenizer, ids):
    located = tokenizer.locate(ids)
    pieces = [tokenizer.token_bytes(token) for token in ids]
    places = [(t.byte_start, t.byte_end, t.char_start, t.char_end) for t in located]
    assert places == naive_places(pieces)
    assert [t.bytes for t in located] == pieces
    assert [t.token for t in located] == [piece.decode("utf-8", "replace") for piece in pieces]


def test_tokens_that_share_a_character_both_have_it(tokenizer):
    text = "a👍你b"
    located = tokenizer.locate(tokenizer.encode(text))
    assert len(located) > len(text)
    for token in located:
        covered = text[token.char_start : token.char_end].encode()
        assert token.bytes in covered
    assert [located[0].char_start, located[-1].char_end] == [0, len(text)]


def test_places_of_invalid_bytes_count_the_replacements(tokenizer):
    by_byte = {tokenizer.token_bytes(token): token for token in range(256)}
    ids = [by_byte[bytes([byte])] for byte in b"\xf0\x9f\x91A\xff\xe2\x82"]
    places = [(t.char_start, t.char_end) for t in tokenizer.locate(ids)]
    assert tokenizer.decode(ids)[0] == "�A��"
    assert places == [(0, 1), (0, 1), (0, 1), (1, 2), (2, 3), (3, 4), (3, 4)]


def test_worker_threads_may_share_one(tokenizer):
    texts = [f"thread {n} says 你好 👍" for n in range(64)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        shared = list(pool.map(tokenizer.encode, texts))
    assert shared == [tokenizer.encode(text) for text in texts]


def test_a_file_that_is_no_byte_level_tokenizer_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(ValueError, match="cannot load"):
        Tokenizer.from_file(path)
    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(path))
    with pytest.raises(ValueError, match="not byte-level"):
        Tokenizer.from_file(path)
