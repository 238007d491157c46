"""Replicas behind Ray's proxy, and the plain server beside them."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def cluster(artifacts):
    from support.ray_cluster import running_cluster  # only where there is Ray

    with running_cluster(artifacts["fp32"]) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def plain(artifacts):
    """The address of a plain server with the same settings, a process of its own."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "nextok_server", str(artifacts["fp32"])),
            *("--listen", "127.0.0.1:0", "--threads", "1", "--no-spinning"),
            *("--message-interval", "0"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield process.stdout.readline().split()[-1]
    process.terminate()
    process.communicate(timeout=30)
