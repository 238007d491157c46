"""Draws the plots from a file of results.

    python -m bench.plots bench/results.json bench/plots

Knows: the file of results, matplotlib. Does not know: how it was measured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
# The same file from the same results; letters stay letters.
mpl.rcParams.update({"svg.hashsalt": "nextok", "svg.fonttype": "none", "font.size": 9})

import matplotlib.pyplot as plt  # noqa: E402 - the backend has to be chosen before
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from bench.table import PRECISIONS, RATES, Results, label, rates_by_context, value  # noqa: E402

OURS, OTHERS = "#c2410c", "#94a3b8"
LINES = ("#475569", "#0284c7", "#16a34a", "#9333ea", "#ca8a04", "#0d9488", "#be185d")


def main() -> None:
    """Reads the results, writes an SVG a plot."""
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    found = json.loads(source.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    plots = {
        "one_stream": bars(found, "streams_1", "decode", "one stream, tokens/s", 1.0),
        "first_token_512": bars(
            found, "prompt_512", "first_token", "first token after a prompt of 512, ms", 1000.0
        ),
        "streams": throughput(found),
        "context": by_context(found),
    }
    for name, figure in plots.items():
        if figure is not None:
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
            plt.close(figure)
            print(folder / f"{name}.svg")


def bars(found: Results, scenario: str, figure: str, title: str, scale: float) -> Figure | None:
    """One bar a contender, grouped by precision, with least and largest of the rounds."""
    if scenario not in found["scenarios"]:
        return None
    summary = found["scenarios"][scenario]["summary"]
    rows = [
        (precision, name, summary[name][figure])
        for precision in PRECISIONS
        for name in summary
        if name in found["contenders"]
        and found["contenders"][name]["precision"] == precision
        and figure in summary[name]
    ]
    drawn: Figure
    drawn, axes = plt.subplots(figsize=(7, 0.26 * len(rows) + 0.6))
    place, places, names = 0.0, [], []
    for i, (precision, name, spread) in enumerate(rows):
        place += 0.5 if i and rows[i - 1][0] != precision else 0.0
        length = scale * spread["median"]
        error = [[length - scale * spread["least"]], [scale * spread["largest"] - length]]
        color = OURS if name.startswith("nextok") else OTHERS
        axes.barh(place, length, xerr=error, color=color, ecolor="#334155", capsize=2)
        axes.annotate(
            f"{length:.0f}", (scale * spread["largest"], place), (4, 0), va="center",
            textcoords="offset points",
        )  # fmt: skip
        places.append(place)
        names.append(label(found, name))
        place += 1
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_title(title, loc="left")
    _plain(axes)
    return drawn


def throughput(found: Results) -> Figure | None:
    """Decode rate against streams, one panel a precision."""
    shown = [key for key, _ in RATES if key in found["scenarios"]]
    if len(shown) < 2:
        return None
    precisions = [p for p in PRECISIONS if p != "fp16"]
    drawn: Figure
    drawn, panels = plt.subplots(1, len(precisions), figsize=(10, 3.6), sharey=True)
    for precision, axes in zip(precisions, panels, strict=True):
        colors = iter(LINES)
        for name, contender in found["contenders"].items():
            points = [
                (found["scenarios"][key]["streams"], rate)
                for key in shown
                if (rate := value(found, key, name, "decode")) is not None
            ]
            if contender["precision"] == precision and len(points) == len(shown):
                is_ours = name == f"nextok-{precision}"
                color = OURS if is_ours else next(colors)
                style = {"color": color, "linewidth": 2.2 if is_ours else 1.3}
                axes.plot(*zip(*points, strict=True), "o-", label=contender["label"], **style)
        axes.set_title(f"{precision}: tokens/s over all streams", loc="left")
        axes.set_xscale("log", base=2)
        streams = [found["scenarios"][key]["streams"] for key in shown]
        axes.set_xticks(streams, [str(count) for count in streams])
        axes.set_xlabel("streams")
        axes.legend(fontsize=7, frameon=False)
        _plain(axes)
    return drawn


def by_context(found: Results) -> Figure | None:
    """Milliseconds a token of each stream against the context, one panel a scenario."""
    shown = [name for name in ("growth_1", "growth_8") if rates_by_context(found, name)]
    if not shown:
        return None
    drawn: Figure
    drawn, panels = plt.subplots(1, len(shown), figsize=(5 * len(shown), 3.6), squeeze=False)
    for scenario, axes in zip(shown, panels[0], strict=True):
        colors = iter(LINES)
        streams = found["scenarios"][scenario]["streams"]
        for entry, rates in rates_by_context(found, scenario).items():
            is_ours = entry.startswith("nextok")
            color = OURS if is_ours else next(colors)
            style = "--" if entry.endswith("int4") else "-"
            milliseconds = [1000 * streams / rate for rate in rates.values()]
            axes.plot(list(rates), milliseconds, style, color=color, label=label(found, entry))
        axes.set_title(f"{found['scenarios'][scenario]['about']}: ms a step", loc="left")
        axes.set_xlabel("context, tokens")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=7, frameon=False)
        _plain(axes)
    return drawn


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=2)


if __name__ == "__main__":
    main()
