"""Which threads of a server let others go first."""

import os
import sys
from pathlib import Path

import pytest

from nextok import Client

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's scheduler")


def policies(process):
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return [os.sched_getscheduler(int(thread.name)) for thread in threads]


@pytest.mark.parametrize(("flags", "giving_way"), [(("--give-way",), 3), ((), 0)])
def test_the_threads_that_compute_give_way_where_they_are_told_to_and_no_others(
    start, flags, giving_way
):
    process, address = start("--threads", "3", *flags)
    with Client(address) as client:
        assert len(list(client.generate("hello", max_tokens=3, ignore_eos=True))) == 3
    found = policies(process)
    assert found.count(os.SCHED_IDLE) == giving_way
    assert found.count(os.SCHED_OTHER) == len(found) - giving_way
