"""From the rounds' figures to medians, paired ratios and the memory floor.

Knows: figures and pairs of contenders. Does not know: where the figures come from.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

Go = Mapping[str, Mapping[str, float]]  # figures by entry
Round = Iterable[Go]
Ratio = dict[str, Any]

MEMORY = "memory"  # the contender that only reads

# Pairs beside nextok against every peer of its precision: (scenario, entry) against another.
PAIRS = (
    (("streams_1", "nextok-int8"), ("streams_1", "optimum-fp32")),
    (("streams_32", "nextok-int8"), ("streams_1", "nextok-int8")),
    (("streams_32", "nextok-int8"), ("streams_32", "nextok-plain-int8")),
    (("streams_1", "nextok-int8"), ("streams_1", "nextok-bare-int8")),
    (("streams_32", "nextok-int8"), ("streams_32", "nextok-bare-int8")),
    (("repetitive", "nextok-int8 +drafts"), ("repetitive", "nextok-int8")),
    (("repetitive", "nextok-int8 +drafts"), ("repetitive", "openvino-int8 +drafts")),
    *(
        ((scenario, "nextok-int8 +drafts"), (scenario, "nextok-int8"))
        for scenario in (
            "unpredictable",
            "unpredictable_32",
            "streams_1",
            "streams_8",
            "streams_32",
        )
    ),
    (("prefix", "nextok-int8 +reuse"), ("prefix", "nextok-int8")),
    (("prefix", "nextok-int8 +reuse"), ("prefix", "openvino-int8 +reuse")),
    (("prefix", "nextok-int8 +reuse"), ("prefix", "llamacpp-int8 +reuse")),
)


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, quartiles, least and largest."""
    ordered = sorted(values)
    many = len(ordered) > 1
    low, middle, high = statistics.quantiles(ordered, method="inclusive") if many else ordered * 3
    return {
        "median": middle,
        "lower_quartile": low,
        "upper_quartile": high,
        "least": ordered[0],
        "largest": ordered[-1],
    }


def medians(rounds: Iterable[Round]) -> dict[str, dict[str, dict[str, float]]]:
    """Every figure of every entry, over the goes that have it."""
    gathered: dict[str, dict[str, list[float]]] = {}
    for go in itertools.chain.from_iterable(rounds):
        for entry, figures in go.items():
            for figure, value in figures.items():
                gathered.setdefault(entry, {}).setdefault(figure, []).append(value)
    return {
        entry: {figure: spread(values) for figure, values in figures.items()}
        for entry, figures in gathered.items()
    }


def is_time(figure: str) -> bool:
    """Whether less is better."""
    return figure.endswith("first_token")


def paired(
    ours: Iterable[Round], our_entry: str, theirs: Iterable[Round], their_entry: str
) -> dict[str, dict[str, Any]]:
    """How many times as fast one is as the other, by figure, go by go."""
    gathered: dict[str, list[float]] = {}
    rounds = zip(ours, theirs, strict=False)
    pairs = (zip(mine, other, strict=False) for mine, other in rounds)
    for our_go, their_go in itertools.chain.from_iterable(pairs):
        mine, other = our_go.get(our_entry, {}), their_go.get(their_entry, {})
        for figure in mine.keys() & other.keys():
            if figure.endswith("agreement"):
                continue
            ratio = mine[figure] / other[figure]
            gathered.setdefault(figure, []).append(1 / ratio if is_time(figure) else ratio)
    return {f: spread(values) | {"goes": len(values)} for f, values in sorted(gathered.items())}


def ratios(found: Mapping[str, list[Round]], precisions: Mapping[str, str]) -> list[Ratio]:
    """Compares nextok with every peer of its precision, scenario by scenario, and PAIRS.

    Args:
        found: The rounds, by scenario.
        precisions: By the contenders' names.
    """
    wanted = list(PAIRS)
    for scenario, rounds in found.items():
        entries = list(dict.fromkeys(entry for each in rounds for go in each for entry in go))
        plain = [entry for entry in entries if entry in precisions]
        wanted += [
            ((scenario, ours), (scenario, theirs))
            for ours in plain
            for theirs in plain
            if ours == f"nextok-{precisions[ours]}"
            and precisions[ours] == precisions[theirs]
            and not theirs.startswith("nextok-")
        ]
    results = []
    for (scenario, ours), (other, theirs) in wanted:
        if times := paired(found.get(scenario, ()), ours, found.get(other, ()), theirs):
            names = {"scenario": scenario, "ours": ours, "theirs": theirs}
            results.append(names | {"their_scenario": other, "times_as_fast": times})
    return results


def bandwidth(weights: Mapping[str, int], rounds: Iterable[Round]) -> dict[str, float] | None:
    """Gigabytes (1e9) a second at which memory was read; None where it was not.

    Args:
        weights: Bytes, by entry.
        rounds: Of one stream.
    """
    gigabytes = [
        go[MEMORY]["decode"] * weights[MEMORY] / 1e9
        for go in itertools.chain.from_iterable(rounds)
        if MEMORY in go
    ]
    return spread(gigabytes) if gigabytes else None


def memory_floor(
    weights: Mapping[str, int], rounds: Iterable[Round]
) -> dict[str, dict[str, float]]:
    """What one stream takes for a token, and what reading its weights alone would take.

    Medians over the goes; the share is taken within each, as ratios are, since the memory of a
    shared machine is now faster and now slower.

    Args:
        weights: Bytes, by entry.
        rounds: Of one stream.
    """
    taken: dict[str, list[float]] = {}
    floors: dict[str, list[float]] = {}
    for go in itertools.chain.from_iterable(rounds):
        if MEMORY not in go:
            continue
        second = go[MEMORY]["decode"] * weights[MEMORY]
        for entry in go.keys() & weights.keys() - {MEMORY}:
            taken.setdefault(entry, []).append(1000 / go[entry]["decode"])
            floors.setdefault(entry, []).append(1000 * weights[entry] / second)
    return {
        entry: {
            "milliseconds": statistics.median(taken[entry]),
            "floor": statistics.median(floors[entry]),
            "share": statistics.median(
                floor / token for floor, token in zip(floors[entry], taken[entry], strict=True)
            ),
        }
        for entry in weights
        if entry in taken
    }
