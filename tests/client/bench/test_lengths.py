"""How lengths are written, and what is drawn."""

import re
import statistics
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextok.bench.lengths import MOST, Lengths, parse_lengths


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("64", Lengths(64, 64)),
        ("32:128", Lengths(32, 128)),
        ("7:7", Lengths(7, 7)),
        ("lognormal:96,0.5,16,512", Lengths(16, 512, 96.0, 0.5)),
    ],
)
def test_a_text_has_one_meaning(text, lengths):
    assert parse_lengths(text) == lengths


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not N, LOW:HIGH or lognormal:MEDIAN,SIGMA,LOW,HIGH"),
        ("x", "is not N, LOW"),
        ("1:", "is not N, LOW"),
        ("1.5", "is not N, LOW"),
        ("normal:3,4", "is not N, LOW"),
        ("lognormal:96,0.5", "is not N, LOW"),
        ("lognormal:a,0.5,1,2", "is not N, LOW"),
        ("0", "0 in '0' is not from 1 to 1000000"),
        (f"1:{MOST + 1}", "1000001 in '1:1000001' is not from 1 to 1000000"),
        ("9:8", "'9:8' begins at 9 and ends before that"),
        ("lognormal:96,0.5,9,8", "begins at 9"),
        ("lognormal:nan,0.5,1,2", "nan in"),
        ("lognormal:96,0,1,2", "0 in 'lognormal:96,0,1,2' is not over 0"),
        ("lognormal:96,inf,1,2", "inf in"),
    ],
)
def test_a_bad_text_is_refused_with_the_value_and_its_range(text, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_lengths(text)


_BOUNDS = st.tuples(st.integers(1, 5000), st.integers(1, 5000)).map(sorted)
_LENGTHS = st.one_of(
    _BOUNDS.map(lambda b: Lengths(*b)),
    st.builds(
        lambda b, median, sigma: Lengths(*b, float(median), sigma / 4),
        _BOUNDS,
        st.integers(1, 5000),
        st.integers(1, 20),
    ),
)


@given(_LENGTHS)
def test_the_text_of_lengths_is_read_as_them(lengths):
    assert parse_lengths(str(lengths)) == lengths


@given(_LENGTHS, st.integers(0, 2**64 - 1))
def test_what_is_drawn_is_within_bounds_and_depends_on_the_seed_alone(lengths, seed):
    drawn = [lengths.draw(random) for random in (Random(seed), Random(seed))]
    assert drawn[0] == drawn[1]
    assert isinstance(drawn[0], int)
    assert lengths.low <= drawn[0] <= lengths.high


def test_uniform_lengths_reach_both_bounds_equally_often():
    random = Random(1)
    drawn = [parse_lengths("3:6").draw(random) for _ in range(4000)]
    assert all(900 < drawn.count(length) < 1100 for length in (3, 4, 5, 6))


def test_lognormal_lengths_have_their_median_and_a_longer_upper_half():
    random = Random(1)
    drawn = [parse_lengths("lognormal:100,0.5,1,100000").draw(random) for _ in range(4000)]
    assert statistics.median(drawn) == pytest.approx(100, rel=0.05)
    assert statistics.fmean(drawn) == pytest.approx(100 * 2.718**0.125, rel=0.05)
