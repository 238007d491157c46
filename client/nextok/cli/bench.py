"""`nextok bench`: the command.

Knows what is checked before anything is sent, and where the results go. What is measured, and
what comes of it, is in `nextok.bench`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import typer

from nextok.bench.axes import swept_over
from nextok.bench.machine import ServerMemory
from nextok.bench.measure import Bench
from nextok.bench.points import check_comparable
from nextok.bench.report import Run, from_line, to_line
from nextok.bench.settings import BadSetting, Settings, check_against, check_prefix, sweep
from nextok.cli import bench_options, bench_view, connecting, looks, options
from nextok.cli.bench_options import bad
from nextok.cli.ending import CheckFailed

_CALL_SECONDS = 60.0
# What still means something where nothing is measured.
_WITH_FROM = ("from_file", "plots", "json")


def bench(
    context: typer.Context,
    streams: bench_options.Streams = None,
    request_rate: bench_options.RequestRate = None,
    contexts: bench_options.Contexts = None,
    requests: bench_options.Requests = None,
    warmup: bench_options.Warmup = None,
    repeats: bench_options.Repeats = 1,
    prompt_tokens: bench_options.PromptTokens = None,
    output_tokens: bench_options.OutputTokens = "128",
    prefix_share: bench_options.PrefixShare = 0.0,
    prefix_tokens: bench_options.PrefixTokens = 0,
    bypass_prefix_reuse: bench_options.BypassPrefixReuse = False,
    drafts: bench_options.Drafts = None,
    top: options.Top = 10,
    seed: bench_options.Seed = 0,
    temperature: options.Temperature = 0.0,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    target: options.Target = options.DEFAULT_TARGET,
    timeout: bench_options.Timeout = None,
    server_pid: bench_options.ServerPid = None,
    json: bench_options.Json = False,
    output: bench_options.Output = None,
    plots: bench_options.Plots = None,
    from_file: bench_options.FromFile = None,
) -> None:
    """Puts load on a server: tokens a second, latencies, errors.

    docs/bench.md says what each figure means, and how to measure on a machine that is shared.
    """
    if from_file is not None:
        _refuse_measuring(context)
        _show_again(_read(from_file), json=json, plots=plots)
        return
    if streams is not None and request_rate is not None:
        raise bad("--request-rate", "an open loop has no --streams: give one of the two")
    if contexts is not None and prompt_tokens is not None:
        raise bad("--contexts", "these are the prompts' lengths: give no --prompt-tokens")
    base = Settings(
        streams=None,
        request_rate=None,
        context=None,
        requests=0,
        warmup=0,
        prompt_tokens=bench_options.read_lengths("--prompt-tokens", prompt_tokens or "64"),
        output_tokens=bench_options.read_lengths("--output-tokens", output_tokens),
        prefix_share=prefix_share,
        prefix_tokens=prefix_tokens,
        seed=seed,
        temperature=temperature or 0.0,
        top_k=top_k,
        top_p=top_p,
        top_logprobs=top or 0,
        drafts=drafts,
        bypass_prefix_reuse=bypass_prefix_reuse,
        timeout=timeout,
    )
    if streams is None and request_rate is None:
        streams = "1"
    swept = sweep(
        base,
        streams=bench_options.read_streams(streams),
        request_rates=bench_options.read_request_rates(request_rate),
        contexts=bench_options.read_contexts(contexts),
        requests=requests,
        warmup=warmup,
    )
    _prepare_plots(plots, swept)
    runs = _measure(_ready(target, swept, server_pid), swept, repeats, json=json, output=output)
    if plots is not None:
        _draw(runs, plots)
    _check_answered(runs)


def _ready(target: str, settings: Sequence[Settings], server_pid: int | None) -> Bench:
    """Returns what measures the server, once it is sure that all that is asked can be had."""
    with connecting.client(target) as client:
        model = client.get_model(timeout=_CALL_SECONDS)
    try:
        for one in settings:
            check_prefix(one)
            check_against(one, model)
    except BadSetting as error:
        raise bad(error.option, error.message) from None
    try:
        memory = None if server_pid is None else ServerMemory(server_pid)
    except ValueError as error:
        raise bad("--server-pid", str(error)) from None
    return Bench(target, model, memory=memory, connection=connecting.connection(target))


def _measure(
    bench: Bench, settings: Sequence[Settings], repeats: int, *, json: bool, output: Path | None
) -> list[Run]:
    """Measures; whatever ends it, what was measured so far is written and shown."""
    runs: list[Run] = []
    with _opened(output) as file:
        try:
            for run in bench.measure(settings, repeats=repeats):
                runs.append(run)
                line = to_line(run)
                print(bench_view.run_line(run), file=sys.stderr, flush=True)
                if json:
                    print(line, flush=True)
                if file is not None:
                    print(line, file=file, flush=True)
        finally:
            if not json:
                _show(runs)
    return runs


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO | None]:
    if output is None:
        yield None
        return
    try:
        file = output.open("w", encoding="utf-8")
    except OSError as error:
        raise bad("--output", str(error)) from None
    with file:
        yield file


def _show(runs: Sequence[Run]) -> None:
    console = looks.console()
    for table in bench_view.tables(runs):
        console.print(table)
    for note in bench_view.notes(runs):
        console.print(note, soft_wrap=True)


def _check_answered(runs: Sequence[Run]) -> None:
    """Makes sure that every run had an answer: figures of none would pass for figures.

    Raises:
        CheckFailed: A run had none.
    """
    for run in runs:
        if run.results.completed == 0:
            errors = run.results.errors.items()
            reasons = "; ".join(f"{status}: {failures.first}" for status, failures in errors)
            raise CheckFailed(f"no request of run {run.run} ended well: {reasons}")


def _refuse_measuring(context: typer.Context) -> None:
    """Makes sure that beside --from stands nothing that would be ignored."""
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and name not in _WITH_FROM:
            raise bad(parameter.opts[0], "nothing is measured with --from")


def _read(file: Path) -> list[Run]:
    """Reads what --output wrote; runs that can stand in one table, or it is refused."""
    runs = []
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    runs.append(from_line(line))
                except ValueError as error:
                    raise bad("--from", f"{file}, line {number}: {error}") from None
        check_comparable(runs)
    except (OSError, ValueError) as error:
        raise bad("--from", f"{file}: {error}") from None
    if not runs:
        raise bad("--from", f"{file} has no run")
    return runs


def _show_again(runs: Sequence[Run], *, json: bool, plots: Path | None) -> None:
    _prepare_plots(plots, [run.settings for run in runs])
    if json:
        for run in runs:
            print(to_line(run))
    else:
        _show(runs)
    if plots is not None:
        _draw(runs, plots)


def _prepare_plots(folder: Path | None, settings: Sequence[Settings]) -> None:
    """Makes sure that plots can be drawn, before anything is measured for them."""
    if folder is None:
        return
    if importlib.util.find_spec("matplotlib") is None:
        raise CheckFailed("matplotlib is not installed; try: pip install 'nextok[bench]'")
    if not swept_over(settings):
        raise bad(
            "--plots",
            "a curve needs two or more values of --streams, --request-rate or --contexts",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise bad("--plots", str(error)) from None


def _draw(runs: Sequence[Run], folder: Path) -> None:
    from nextok.bench import plots

    for file in plots.write_plots(runs, folder):
        print(file, file=sys.stderr)
