"""The interpreter is wanted back soon from whom it is lent to, and kept in between."""

import sys

import pytest

from nextok_server import interpreter


@pytest.fixture(autouse=True)
def _restored():
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def test_it_is_wanted_back_sooner_than_it_is_taken_away():
    with interpreter.lent():
        wanted_back = sys.getswitchinterval()
    assert wanted_back < sys.getswitchinterval() / 10


def test_it_is_kept_again_after_a_call_that_failed():
    with interpreter.lent():
        pass
    kept = sys.getswitchinterval()
    with pytest.raises(OSError, match="failed"), interpreter.lent():
        raise OSError("failed")
    assert sys.getswitchinterval() == pytest.approx(kept)
