"""The options of `nextok bench`, and how their text becomes values.

Knows typer. What the values mean together is for `nextok.bench.settings` to check.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import typer

from nextok.bench.lengths import FORMS, MOST, Lengths, parse_lengths

T = TypeVar("T", int, float)

_LOAD, _REQUESTS, _OUTPUT = "Load", "Requests", "Output"
_MOST_STREAMS = 10_000
_MOST_RATE = 100_000
_MOST_REQUESTS = 1_000_000


def bad(option: str, message: str) -> typer.BadParameter:
    """Returns the error that ends a command whose option has a value that it cannot have."""
    return typer.BadParameter(message, param_hint=f"'{option}'")


def read_streams(text: str | None) -> list[int]:
    """Reads --streams. None is no value.

    Raises:
        typer.BadParameter: A value has another form, or is out of range.
    """
    return _read_list("--streams", text, int, 1, _MOST_STREAMS)


def read_contexts(text: str | None) -> list[int]:
    """Reads --contexts. None is no value.

    Raises:
        typer.BadParameter: A value has another form, or is out of range.
    """
    return _read_list("--contexts", text, int, 1, MOST)


def read_request_rates(text: str | None) -> list[float]:
    """Reads --request-rate. None is no value.

    Raises:
        typer.BadParameter: A value has another form, or is out of range.
    """
    return _read_list("--request-rate", text, float, 0.001, _MOST_RATE)


def read_lengths(option: str, text: str) -> Lengths:
    """Reads lengths.

    Raises:
        typer.BadParameter: They have another form, or are out of range.
    """
    try:
        return parse_lengths(text)
    except ValueError as error:
        raise bad(option, str(error)) from None


def _read_list(
    option: str, text: str | None, kind: Callable[[str], T], low: float, high: float
) -> list[T]:
    values: list[T] = []
    for part in [] if text is None else text.split(","):
        try:
            value = kind(part)
        except ValueError:
            raise bad(option, f"{part!r} in {text!r} is not a number") from None
        if not low <= value <= high:  # NaN is neither
            raise bad(option, f"{part} in {text!r} is not from {low} to {high}")
        if value in values:
            raise bad(option, f"{part} stands twice in {text!r}")
        values.append(value)
    return values


def _whole(low: int, high: int) -> Callable[[str], int]:
    """Returns what reads a whole number in a range, and names value and range otherwise."""

    def number(value: str) -> int:
        try:
            if low <= int(value) <= high:
                return int(value)
        except ValueError:
            pass
        raise typer.BadParameter(f"{value} is not a whole number from {low} to {high}")

    return number


def _share(value: str) -> float:
    try:
        if 0 <= float(value) <= 1:
            return float(value)
    except ValueError:
        pass
    raise typer.BadParameter(f"{value} is not from 0 to 1")


def _seconds(value: str) -> float:
    try:
        if 0 < float(value) < math.inf:
            return float(value)
    except ValueError:
        pass
    raise typer.BadParameter(f"{value} is not a number of seconds over 0")


Streams: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="N[,N...]",
        help="Closed loop: streams that are always busy; several are swept. Default: 1.",
        rich_help_panel=_LOAD,
    ),
]
RequestRate: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="R[,R...]",
        help="Open loop instead: requests a second, arriving at random (Poisson).",
        rich_help_panel=_LOAD,
    ),
]
Contexts: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="N[,N...]",
        help="Lengths of prompts to sweep, instead of --prompt-tokens.",
        rich_help_panel=_LOAD,
    ),
]
Requests: TypeAlias = Annotated[
    int | None,
    typer.Option(
        parser=_whole(1, _MOST_REQUESTS),
        metavar="N",
        help="Requests that a run measures. Default: 4 a stream, at least 20; open loop 100.",
        rich_help_panel=_LOAD,
    ),
]
Warmup: TypeAlias = Annotated[
    int | None,
    typer.Option(
        parser=_whole(0, _MOST_REQUESTS),
        metavar="N",
        help="Requests before them. Default: one a stream; open loop 10.",
        rich_help_panel=_LOAD,
    ),
]
Repeats: TypeAlias = Annotated[
    int,
    typer.Option(
        parser=_whole(1, 1000),
        metavar="N",
        help="Rounds; each runs everything once.",
        rich_help_panel=_LOAD,
    ),
]
PromptTokens: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="LENGTHS",
        help=f"Of the prompts: {FORMS}. Default: 64.",
        rich_help_panel=_REQUESTS,
    ),
]
OutputTokens: TypeAlias = Annotated[
    str, typer.Option(metavar="LENGTHS", help="Of the completions.", rich_help_panel=_REQUESTS)
]
PrefixShare: TypeAlias = Annotated[
    float,
    typer.Option(
        parser=_share,
        metavar="X",
        help="Share of the requests whose prompts begin with the same tokens.",
        rich_help_panel=_REQUESTS,
    ),
]
PrefixTokens: TypeAlias = Annotated[
    int,
    typer.Option(
        parser=_whole(0, MOST),
        metavar="N",
        help="How many tokens these begin with.",
        rich_help_panel=_REQUESTS,
    ),
]
BypassPrefixReuse: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--bypass-prefix-reuse",
        help="Has prompts computed whole, even where their state was kept.",
        rich_help_panel=_REQUESTS,
    ),
]
Drafts: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--drafts/--no-drafts",
        help="Whether tokens may be drafted. Default: as the server is set.",
        rich_help_panel=_REQUESTS,
    ),
]
Seed: TypeAlias = Annotated[
    int,
    typer.Option(
        parser=_whole(0, 2**64 - 1),
        metavar="N",
        help="Of lengths, arrivals, prompts and draws.",
        rich_help_panel=_REQUESTS,
    ),
]
Timeout: TypeAlias = Annotated[
    float | None,
    typer.Option(parser=_seconds, metavar="SECONDS", help="Longest time for one request."),
]
ServerPid: TypeAlias = Annotated[
    int | None,
    typer.Option(
        parser=_whole(1, 2**31 - 1),
        metavar="PID",
        help="A server on this machine, to tell its memory too.",
    ),
]
Json: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--json",
        help="One JSON object a run, as it ends, instead of the table.",
        rich_help_panel=_OUTPUT,
    ),
]
Output: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Writes these objects to a file too.", rich_help_panel=_OUTPUT
    ),
]
Plots: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Draws what was swept over, as SVG. Needs the extra bench.",
        rich_help_panel=_OUTPUT,
    ),
]
FromFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="FILE",
        help="Measures nothing: shows and draws what --output wrote.",
        rich_help_panel=_OUTPUT,
    ),
]
