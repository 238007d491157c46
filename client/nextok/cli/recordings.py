"""Recordings as files, and `nextok replay`: how its result is told.

Knows typer and files. What a recording holds is known by `nextok.recording`, what is compared
by `nextok.replay`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from nextok.attempts import DEFAULT_RESUME
from nextok.cli import connecting, json_lines, options
from nextok.cli.ending import BadFile, CheckFailed, ExitCode
from nextok.formatting import quoted, tokens
from nextok.generation import Generation
from nextok.recording import Recording
from nextok.recording_lines import RecordingError
from nextok.replay import ARTIFACT_FIELD, Difference, Replay, float32_bits

Record: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Writes what `nextok replay` needs to run this again.",
        show_default=False,
    ),
]
_File: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE", help="The recording.", show_default=False)
]


@contextmanager
def recording(generation: Generation, path: Path | None) -> Iterator[None]:
    """Writes the recording of a generation that is read inside; does nothing without a path.

    The file is emptied once the server has answered, before anything is shown: a request that
    is refused leaves an older file alone, and a file that cannot be written costs no generation.

    Raises:
        BadFile: The file cannot be written.
        CheckFailed: The stream ended without an end to record.
    """
    if path is None:
        yield
        return
    generation.start()
    _write(path, "")
    yield
    if generation.finish is None:
        raise CheckFailed("the stream ended without a finish; there is nothing to record")
    _write(path, generation.recording().dumps())


def replay(
    file: _File,
    target: options.Target = options.DEFAULT_TARGET,
    resume: options.Resume = DEFAULT_RESUME,
    timeout: options.Timeout = None,
    json: options.Json = False,
) -> None:
    """Runs a recording of `generate --record` again; tells the first difference.

    Compared are token ids, the bits of log probabilities, the finish and the digest. Exits with
    0 where all are identical, 4 where something differs, 5 where the server has another artifact.
    With --json: one object with identical, difference, steps and digest.
    """
    recording = _read(file)
    with connecting.client(target) as client:
        result = client.replay(recording, resume=resume, timeout=timeout)
    if json:
        json_lines.write_line(result)
    else:
        print(_result_line(result))
    if not result.identical:
        raise typer.Exit(_exit_code(result))


def _read(path: Path) -> Recording:
    try:
        return Recording.loads(path.read_bytes())
    except OSError as error:
        raise BadFile(str(error)) from error
    except RecordingError as error:
        raise BadFile(f"{path}: {error}") from error


def _result_line(result: Replay) -> str:
    difference = result.difference
    if difference is None:
        return f"identical: {tokens(result.steps)}, digest {result.digest}"
    place = "" if difference.step is None else f"step {difference.step}, "
    values = [_value(difference, v) for v in (difference.recorded, difference.replayed)]
    return f"different: {place}{difference.field}: recorded {values[0]}, replayed {values[1]}"


def _exit_code(result: Replay) -> ExitCode:
    other = result.difference is not None and result.difference.field == ARTIFACT_FIELD
    return ExitCode.OTHER_ARTIFACT if other else ExitCode.DIFFERENT


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="ascii")
    except OSError as error:
        raise BadFile(f"--record: {error}") from error


def _value(difference: Difference, value: str | float | None) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value!r} (bits {float32_bits(value)})"
    return quoted(value) if difference.field == "stop" else str(value)
