"""`nextok contrast`: the same tokens behind two prompts, or under two settings.

Knows what the command asks and how a contrast looks as it comes. Steps go to stdout, what is said
about all of them to stderr, so that a pipe gets the steps alone.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any

import typer

from nextok.cli import connecting, json_lines, looks, options
from nextok.formatting import percent, quoted, tokens
from nextok.lockstep import ContrastStep
from nextok.weighing import Settings

_OTHER = "The other side"


def _other(metavar: str, help_: str) -> Any:
    return typer.Option(metavar=metavar, help=help_, rich_help_panel=_OTHER)


def contrast(
    text: options.Text,
    other: Annotated[
        str | None, _other("TEXT", "Another text to start from. Default: the same.")
    ] = None,
    continuation: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Follows this on both sides. Default: the first side draws tokens.",
        ),
    ] = None,
    max_tokens: options.MaxTokens = 20,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    seed: options.Seed = None,
    other_temperature: Annotated[float | None, _other("X", "As --temperature.")] = None,
    other_top_k: Annotated[int | None, _other("N", "As --top-k.")] = None,
    other_top_p: Annotated[float | None, _other("X", "As --top-p.")] = None,
    other_min_p: Annotated[float | None, _other("X", "As --min-p.")] = None,
    top: options.Top = None,
    target: options.Target = options.DEFAULT_TARGET,
    timeout: options.Timeout = None,
    json: options.Json = False,
) -> None:
    """Follows the same tokens on two sides, and tells how far apart their probabilities are.

    What is not said of the other side is as on the first. With --top, the likeliest tokens of
    both under each line. With --json, one step a line; an infinite divergence is null.
    """
    text = options.read_text(text)
    try:
        mine = _changed(Settings(), temperature, top_k, top_p, min_p)
        theirs = _changed(mine, other_temperature, other_top_k, other_top_p, other_min_p)
        with connecting.client(target) as client:
            running = client.contrast(
                text,
                other_prompt=None if other is None else options.read_text(other),
                settings=mine,
                other_settings=theirs,
                continuation=None if continuation is None else options.read_text(continuation),
                max_tokens=20 if max_tokens is None else max_tokens,
                seed=seed,
                top_logprobs=10 if top is None else top,
                timeout=timeout,
            )
            with running:
                for step in running:
                    _write_json(step) if json else _show(step, with_candidates=bool(top))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not json and running.steps:
        looks.console(stderr=True).print(_end(running.steps), style="dim", soft_wrap=True)


def _changed(
    settings: Settings,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
) -> Settings:
    said = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    changes: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    return replace(settings, **changes)


def _write_json(step: ContrastStep) -> None:
    line: dict[str, Any] = json_lines.to_json(step)
    for name in ("kl", "reverse_kl"):
        if math.isinf(line[name]):
            line[name] = None
    json_lines.write_line(line)


def _show(step: ContrastStep, *, with_candidates: bool) -> None:
    console = looks.console()
    line = (
        f"{step.index:>4}  {quoted(step.token):<16} {percent(step.prob):>8} "
        f"{percent(step.other_prob):>8}   KL {step.kl:7.4f}   JS {step.js:6.4f} nats  "
    )
    bar = looks.bar(step.js / math.log(2))
    console.out((looks.clean(line) + bar).rstrip(), highlight=False)
    if with_candidates:
        for c in step.candidates:
            told = f"{quoted(c.token):<16} {percent(c.prob):>8} {percent(c.other_prob):>8}"
            console.out(looks.clean(f"      {told}"), style="dim", highlight=False)
    console.file.flush()


def _end(steps: tuple[ContrastStep, ...]) -> str:
    count = len(steps)
    kl, js = sum(step.kl for step in steps) / count, sum(step.js for step in steps) / count
    return f"{tokens(count)}, mean KL {kl:.4f}, mean JS {js:.4f} nats of at most {math.log(2):.4f}"
