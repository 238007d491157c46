"""The text that tokens' bytes let out, against a naive model that sees all of it at once."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextok_server.text_stream import Pushed, TextStream

EMOJI = "👩‍👩‍👧‍👦 says 你好 to 🇮🇹 naïve"

# Few characters, so that stop strings match, overlap and nearly match often.
crowded = st.text("ab€👍\u200d", max_size=30)
stops = st.lists(st.text("ab€👍\u200d", min_size=1, max_size=4), max_size=4)
raw = st.binary(max_size=30) | st.lists(
    st.sampled_from([b"\xe2", b"\x82", b"\xac", b"\xf0", b"\x9f", b"\x91", b"\x8d", b"a", b"\xff"]),
    max_size=20,
).map(b"".join)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def naive_cut(text: str, stop: list[str]) -> tuple[str, str | None]:
    for end in range(1, len(text) + 1):
        matches = [s for s in stop if text[:end].endswith(s)]
        if matches:
            longest = max(matches, key=len)
            return text[: end - len(longest)], longest
    return text, None


def run(pieces: list[bytes], stop: list[str]) -> tuple[str, str | None]:
    stream = TextStream(stop)
    text = ""
    for piece in pieces:
        pushed = stream.push(piece)
        text += pushed.delta
        if pushed.stop is not None:
            return text + stream.finish(), pushed.stop
    return text + stream.finish(), None


@given(raw, st.lists(st.integers(0, 30)))
def test_deltas_add_up_to_what_one_decode_of_all_bytes_gives(data, cuts):
    assert run(split(data, cuts), []) == (data.decode("utf-8", "replace"), None)


@given(crowded, stops, st.lists(st.integers(0, 120)))
def test_any_split_into_tokens_stops_where_the_naive_search_does(text, stop, cuts):
    assert run(split(text.encode(), cuts), stop) == naive_cut(text, stop)


@given(crowded, stops)
def test_nothing_is_held_that_cannot_become_a_stop_string(text, stop):
    stream = TextStream(stop)
    shown = ""
    for count, character in enumerate(text, start=1):
        pushed = stream.push(character.encode())
        shown += pushed.delta
        if pushed.stop is not None:
            return
        held = text[len(shown) : count]
        ends = [text[start:count] for start in range(count)]
        undecided = [end for end in ends if any(s.startswith(end) for s in stop)]
        assert held == max(undecided, key=len, default="")


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_characters_come_out_whole_and_in_order(size):
    data = EMOJI.encode()
    stream = TextStream()
    deltas = [stream.push(data[at : at + size]).delta for at in range(0, len(data), size)]
    assert "�" not in "".join(deltas)
    assert "".join(deltas) == EMOJI
    assert stream.finish() == ""


def test_a_stop_string_may_span_tokens_and_is_not_part_of_the_text():
    stream = TextStream(["\n\nUser:"])
    assert stream.push(b"Hi.\n") == Pushed("Hi.", None)
    assert stream.push(b"\nUs") == Pushed("", None)
    assert stream.push(b"er: more") == Pushed("", "\n\nUser:")
    assert stream.finish() == ""


def test_text_that_only_began_like_a_stop_string_comes_out():
    stream = TextStream(["STOP"])
    assert stream.push(b"a ST") == Pushed("a ", None)
    assert stream.push(b"ART") == Pushed("START", None)
    assert stream.push(b" ST") == Pushed(" ", None)
    assert stream.finish() == "ST"


def test_the_first_stop_string_to_be_complete_wins_and_then_the_longest():
    assert run([b"xabcd"], ["abcd", "bc"]) == ("xa", "bc")
    assert run([b"xabcd"], ["bc", "abc", "c"]) == ("x", "abc")


def test_an_incomplete_character_becomes_one_replacement_at_the_end():
    stream = TextStream()
    assert stream.push("👍".encode()[:3]) == Pushed("", None)
    assert stream.finish() == "�"


def test_unsearched_text_comes_out_at_once_and_no_match_begins_in_it():
    stream = TextStream(["ab"])
    assert stream.push(b"xab a", check_stop=False) == Pushed("xab a", None)
    assert stream.push(b"b ") == Pushed("b ", None)
    assert stream.push(b"ab") == Pushed("", "ab")


def test_a_character_belongs_to_the_token_that_completes_it():
    euro = "€".encode()
    stream = TextStream(["€"])
    assert stream.push(euro[:2], check_stop=False) == Pushed("", None)
    assert stream.push(euro[2:]) == Pushed("", "€")
