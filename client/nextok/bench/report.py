"""A run with all that is needed to understand it, as a line of JSON and back.

Knows the form of the lines. The names in it are promised: a change of their meaning, or of
which there are, changes SCHEMA.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from typing import Any, Final

from nextok.bench.machine import ClientMachine
from nextok.bench.results import Results
from nextok.bench.settings import Settings
from nextok.model import Model

SCHEMA: Final = "nextok.bench/1"


@dataclass(frozen=True, slots=True)
class Server:
    """What was measured, as GetModel told it. The fields have its names."""

    name: str
    precision: str
    layers: int
    heads: int
    width: int
    context_length: int
    artifact_sha256: str
    threads: int
    slots: int
    max_queue: int
    server_version: str
    onnxruntime_version: str


@dataclass(frozen=True, slots=True)
class Resources:
    """What the run took, as far as it can be known.

    Attributes:
        client_cpu_seconds: Processor time of the load generator while it measured.
        load_average_before: Processes that wanted a processor in the minute before the run, on
            the load generator's machine.
        load_average_after: The same in the minute before its end.
        server_rss_bytes: Resident memory of the server at the run's end.
        server_peak_rss_bytes: The most that it ever was, from the server's start.
    """

    client_cpu_seconds: float
    load_average_before: float | None
    load_average_after: float | None
    server_rss_bytes: int | None
    server_peak_rss_bytes: int | None


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        schema: SCHEMA.
        run: Number of the run, from 1.
        runs: How many there are if nothing interrupts.
        repeat: Which repeat of its settings it is, from 1.
        started_at: When, in UTC, as ISO 8601 writes it.
        complete: False if it was interrupted.
        target: Where the server was.
        connections: Connections to it.
        settings: What was asked for.
        server: What was measured.
        client: What measured it.
        resources: What it took.
        results: What came of it.
    """

    schema: str
    run: int
    runs: int
    repeat: int
    started_at: str
    complete: bool
    target: str
    connections: int
    settings: Settings
    server: Server
    client: ClientMachine
    resources: Resources
    results: Results


def server_of(model: Model) -> Server:
    """Returns what a report tells of the answer to GetModel."""
    return Server(
        name=model.name,
        precision=model.precision,
        layers=model.layers,
        heads=model.heads,
        width=model.width,
        context_length=model.context_length,
        artifact_sha256=model.artifact_sha256,
        threads=model.threads,
        slots=model.limits.slots,
        max_queue=model.limits.max_queue,
        server_version=model.server_version,
        onnxruntime_version=model.onnxruntime_version,
    )


def to_line(run: Run) -> str:
    """Returns a run as one line of JSON, without its end."""
    return json.dumps(dataclasses.asdict(run), allow_nan=False)


def from_line(line: str) -> Run:
    """Reads a line that `to_line` wrote.

    Raises:
        ValueError: It is another thing; the text names the field.
    """
    value = json.loads(line)
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"schema: {schema!r} is not {SCHEMA!r}")
    run: Run = _read(Run, value, "")
    return run


def _read(kind: Any, value: Any, path: str) -> Any:
    """Reads a value of a kind that our dataclasses have fields of."""
    if typing.get_origin(kind) is types.UnionType:  # only ever with None
        (kind,) = (k for k in typing.get_args(kind) if k is not types.NoneType)
        return None if value is None else _read(kind, value, path)
    if typing.get_origin(kind) is dict:
        _expect(dict, value, path)
        _, item = typing.get_args(kind)
        return {name: _read(item, part, f"{path}.{name}") for name, part in value.items()}
    if dataclasses.is_dataclass(kind):
        _expect(dict, value, path)
        hints = typing.get_type_hints(kind)
        if missing := [name for name in hints if name not in value]:
            raise ValueError(f"{path or 'the run'}: {missing[0]} is missing")
        parts = {
            name: _read(hint, value[name], f"{path}.{name}".lstrip("."))
            for name, hint in hints.items()
        }
        return typing.cast(Any, kind)(**parts)
    _expect(kind, value, path)
    return value


def _expect(kind: type, value: Any, path: str) -> None:
    # JSON has one kind of number, and for Python a boolean is one too.
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{path or 'the run'}: {value!r} is not a {kind.__name__}")
