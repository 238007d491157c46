"""The results as Markdown, to print and to paste.

    python -m bench.table bench/results.json

Knows: the file of results. Does not know: how it was measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Results = Mapping[str, Any]
RATES = (("streams_1", "1 stream"), ("streams_8", "8 streams"), ("streams_32", "32 streams"))
COLUMNS = (
    *((key, "decode", name) for key, name in RATES),
    ("prompt_512", "first_token", "first of 512"),
    ("growth_1", "decode", "1 to a context of 1,000"),
    ("growth_8", "decode", "8 to a context of 1,000"),
)
FIRSTS = ("first_token", "last_first_token")
PRECISIONS = ("fp32", "fp16", "int8", "int4")


def markdown(found: Results) -> str:
    """All tables."""
    tables = (_rates, _against_peers, _among_ours, _drafts, _contexts, _firsts, _floor, _missing)
    parts = [each(found) for each in tables]
    return "\n\n".join(part for part in parts if part)


def value(found: Results, scenario: str, entry: str, figure: str) -> float | None:
    """A median, where there is one."""
    summary = found["scenarios"].get(scenario, {}).get("summary", {})
    median: float | None = summary.get(entry, {}).get(figure, {}).get("median")
    return median


def label(found: Results, entry: str) -> str:
    """An entry's name for people."""
    name, *options = entry.split(" ")
    name_for_people = found["contenders"][name]["label"]
    return " ".join([name_for_people, *(option.replace("+", "with ") for option in options)])


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(number: float | None, form: str) -> str:
    return "" if number is None else format(number, form)


def _rates(found: Results) -> str:
    """Decode rates, time to the first token, memory, agreement: one row a contender."""
    shown = [pair for pair in RATES if pair[0] in found["scenarios"]]
    has_long = "prompt_512" in found["scenarios"]
    head = ["decode, tokens/s", *(name for _, name in shown)]
    head += ["first of 512, ms"] * has_long + ["resident, MB", "same first token"]
    rows = []
    for precision in PRECISIONS:
        for name, contender in found["contenders"].items():
            if contender["precision"] != precision or contender["failed"]:
                continue
            row = [contender["label"]]
            row += [_number(value(found, key, name, "decode"), ".0f") for key, _ in shown]
            if has_long:
                first = value(found, "prompt_512", name, "first_token")
                row.append(_number(first and 1000 * first, ".0f"))
            memory = contender["resident_bytes"]
            row.append(_number(memory and memory / 1e6, ".0f"))
            agreements = (value(found, key, name, "agreement") for key, _ in reversed(shown))
            row.append(_number(next((a for a in agreements if a is not None), None), ".0%"))
            rows.append(row)
    return _table(head, rows)


def _spread(times: Mapping[str, float]) -> str:
    return f"{times['median']:.2f} ({times['least']:.2f} to {times['largest']:.2f})"


def _against_peers(found: Results) -> str:
    """Each nextok precision against the peers of that precision."""
    columns = [(key, figure, name) for key, figure, name in COLUMNS if key in found["scenarios"]]
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for ratio in found["ratios"]:
        ours, theirs = ratio["ours"], ratio["theirs"]
        if ours.startswith("nextok-") and not theirs.startswith("nextok-") and "+" not in theirs:
            for key, figure, name in columns:
                is_here = ratio["scenario"] == ratio["their_scenario"] == key
                if is_here and figure in ratio["times_as_fast"]:
                    row = cells.setdefault((ours, theirs), {})
                    row[name] = _spread(ratio["times_as_fast"][figure])
    rows = [
        [f"{label(found, ours)} against {label(found, theirs)}"]
        + [row.get(name, "") for _, _, name in columns]
        for (ours, theirs), row in sorted(cells.items())
    ]
    return _table(["times as fast", *(name for _, _, name in columns)], rows) if rows else ""


def _among_ours(found: Results) -> str:
    """The pairs that are no plain comparison with a peer."""
    rows = []
    for ratio in found["ratios"]:
        here, there = (found["scenarios"][ratio[key]] for key in ("scenario", "their_scenario"))
        is_plain = "+" not in ratio["ours"] + ratio["theirs"]
        if here is there and is_plain and not ratio["theirs"].startswith("nextok-"):
            continue
        other = "" if here is there else f", {there['about']}"
        pair = f"{label(found, ratio['ours'])} against {label(found, ratio['theirs'])}{other}"
        for figure, times in ratio["times_as_fast"].items():
            if figure == "decode" or (here["shared"] and figure.endswith("first_token")):
                rows.append([pair, here["about"], figure.replace("_", " "), _spread(times)])
    return _table(["times as fast", "scenario", "figure", "median"], rows) if rows else ""


def _drafts(found: Results) -> str:
    """Rates with and without drafts, in every scenario that has them."""
    rows = [
        [label(found, entry), scenario["about"], f"{summary[entry]['decode']['median']:.0f}"]
        for scenario in found["scenarios"].values()
        for summary in (scenario["summary"],)
        for drafted in summary
        if drafted.endswith(" +drafts")
        for entry in (drafted.removesuffix(" +drafts"), drafted)
        if entry in summary
    ]
    return _table(["drafts", "text", "tokens/s"], rows) if rows else ""


def rates_by_context(found: Results, scenario: str) -> dict[str, dict[int, float]]:
    """Median rates of a growth scenario, by entry and context."""
    summary = found["scenarios"].get(scenario, {}).get("summary", {})
    prefix = "rate_at_"
    return {
        entry: {
            int(figure.removeprefix(prefix)): spread["median"]
            for figure, spread in figures.items()
            if figure.startswith(prefix)
        }
        for entry, figures in summary.items()
    }


def _contexts(found: Results) -> str:
    """Rates at the start and at the end of growing contexts."""
    rows = []
    for scenario in ("growth_1", "growth_8"):
        for entry, rates in rates_by_context(found, scenario).items():
            if rates:
                about = found["scenarios"][scenario]["about"]
                ends = [f"{rates[context]:.0f}" for context in (min(rates), max(rates))]
                kept = rates[max(rates)] / rates[min(rates)]
                rows.append([f"{label(found, entry)}, {about}", *ends, f"{kept:.0%}"])
    head = ["growing context, tokens/s", "at its start", "at its end", "kept"]
    return _table(head, rows) if rows else ""


def _firsts(found: Results) -> str:
    """When requests that share their first tokens get their first one."""
    prefix = found["scenarios"].get("prefix", {"summary": {}})
    figures = [f"{part}_{kind}" for part in ("cold", "warm") for kind in FIRSTS]
    rows = [
        [label(found, entry), *(_number(1000 * spread[f]["median"], ".0f") for f in figures)]
        for entry, spread in prefix["summary"].items()
    ]
    head = ["32 prompts, 400 tokens shared: ms", *(f.replace("_", " ") for f in figures)]
    return _table(head, rows) if rows else ""


def _floor(found: Results) -> str:
    """What a token takes against reading the weights once."""
    if not found["memory_floor"]:
        return ""
    rate = found["gigabytes_per_second"]["median"]
    rows = [
        [
            label(found, entry),
            f"{found['contenders'][entry]['weights_bytes'] / 1e6:.0f}",
            *(f"{floor[key]:.2f}" for key in ("floor", "milliseconds")),
            f"{floor['share']:.0%}",
        ]
        for entry, floor in found["memory_floor"].items()
    ]
    head = ["one stream", "weights, MB", f"read at {rate:.1f} GB/s, ms", "a token, ms", "share"]
    return _table(head, rows) if rows else ""


def _missing(found: Results) -> str:
    """Who has no figures, and why."""
    failed = {n: c["failed"] for n, c in found["contenders"].items() if c["failed"]}
    lines = [f"- {found['contenders'][name]['label']}: {why}" for name, why in failed.items()]
    for scenario in found["scenarios"].values():
        lines += [
            f"- {label(found, entry)}, {scenario['about']}: {why}"
            for entry, why in scenario["missing"].items()
            if entry.split(" ")[0] not in failed
        ]
    return "\n".join(["Not measured:", *lines]) if lines else ""


if __name__ == "__main__":
    print(markdown(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
