"""Reliability 15: the oldest and the newest versions of what nextok runs on.

The long form makes environments at both ends, from a package registry, and has each end's client
talk to each end's server. The short form compares what is written down with what is installed.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.versions import (
    HERE,
    OLDEST,
    ROOT,
    Environment,
    has_registry,
    make_environment,
    stated,
    wrong,
)

PYPROJECT = ROOT / "pyproject.toml"
MOST = 1e-6


def read() -> tuple[str, str]:
    return PYPROJECT.read_text(encoding="utf-8"), OLDEST.read_text(encoding="utf-8")


@contextlib.contextmanager
def served(environment: Environment, artifact: Path) -> Iterator[str]:
    """A server in an environment; gives its address."""
    flags = ("--listen", "127.0.0.1:0", "--no-spinning", "--log-level", "warning")
    process = environment.run("-m", "nextok_server", str(artifact), *flags)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


def numbers(told: Any) -> Iterator[float]:
    """All numbers of what a client was told, in their order."""
    if isinstance(told, list):
        yield from itertools.chain.from_iterable(map(numbers, told))
    else:
        yield told


def apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference of two transcripts' probabilities; infinity where more differs."""
    ids = [
        [[step[0], [top[0] for top in step[3]]] for step in told["steps"]] for told in (one, other)
    ]
    same = ids[0] == ids[1] and all(one[key] == other[key] for key in ("table", "refused"))
    if not same or len(one["whole"]) != len(other["whole"]):
        return float("inf")
    pairs = zip(
        numbers([one["steps"], one["whole"]]),
        numbers([other["steps"], other["whole"]]),
        strict=True,
    )
    return max(abs(a - b) for a, b in pairs)


def test_bounds_the_oldest_that_were_tried_and_what_is_installed_fit_together(figures):
    found = stated(*read())
    faults = wrong(found)
    figures.add(
        15,
        f"versions: {len(faults)} of {len(found.asked)} requirements without a bound that was "
        "tried and that what is installed keeps to (bound: 0)",
        requirements=len(found.asked),
        faults=len(faults),
    )
    assert faults == []


@pytest.mark.parametrize(
    ("file", "before", "after", "fault"),
    [
        (0, '"numpy>=2.1"', '"numpy"', "numpy: no least version"),
        (0, "grpcio>=1.75.1", "grpcio>=1.60", "grpcio: the stubs need 1.75.1, asked for 1.60"),
        (0, "structlog>=25.1", "structlog>=1000", "structlog: tried with 25.1, asked for"),
        (0, "structlog>=25.1", "structlog>=1000", "is installed, asked for structlog>=1000"),
        (1, "protobuf==6.31.1\n", "", "protobuf: tried with None, asked for protobuf>=6.31.1"),
        (1, "rich==", "poor==1\nrich==", "poor: tried, and not asked for"),
    ],
)
def test_the_check_finds_what_does_not_fit(file, before, after, fault):
    texts = list(read())
    assert before in texts[file]
    texts[file] = texts[file].replace(before, after)
    assert any(fault in found for found in wrong(stated(*texts)))


def test_the_comparison_finds_nothing_of_one_server_and_another_model(artifacts):
    told = []
    for precision in ("fp32", "fp32", "int8"):
        with served(HERE, artifacts[precision]) as address:
            told.append(HERE.front_door(address))
    assert len(told[0]["steps"]) == 40
    assert [id for id, _ in told[0]["table"]] != []
    assert told[0]["refused"] == ["sampling.temperature"]
    assert apart(told[0], told[1]) == 0
    assert apart(told[0], told[2]) > MOST


def test_both_ends_say_the_same_to_each_other(artifacts, figures, tmp_path):
    if not figures.minutes:
        pytest.skip("makes two environments; only in the long form")
    if not has_registry():
        pytest.skip("no package registry is at hand")
    found = stated(*read())
    ends = {
        name: make_environment(tmp_path / name, found, oldest=name == "oldest")
        for name in ("oldest", "newest")
    }
    versions = {name: environment.versions() for name, environment in ends.items()}
    assert {name: versions["oldest"][name] for name in found.oldest} == found.oldest
    newer = sum(versions["newest"][name] > found.oldest[name] for name in found.oldest)
    assert newer
    most = 0.0
    for precision in ("fp32", "int8"):
        told = []
        for environment in ends.values():
            with served(environment, artifacts[precision]) as address:
                told += [client.front_door(address) for client in ends.values()]
        most = max([most, *(apart(told[0], other) for other in told[1:])])
    shown = ("grpcio", "protobuf", "onnxruntime", "numpy")
    spans = ", ".join(f"{n} {found.oldest[n]} to {versions['newest'][n]}" for n in shown)
    figures.add(
        15,
        f"versions: both ends of {len(found.oldest)} requirements ({spans}), clients and servers "
        f"crossed: log probabilities at most {most:g} apart (bound: {MOST:g})",
        requirements=len(found.oldest),
        newer=newer,
        apart=most,
    )
    assert most <= MOST
