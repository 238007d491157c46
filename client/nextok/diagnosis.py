"""What is wrong between a client and its server, found out one thing after the other.

Knows: the client, the versions that belong together. Does not know: how findings are shown.
"""

from __future__ import annotations

import contextlib
import math
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version

from nextok.client import Client
from nextok.errors import NextokError, Unavailable
from nextok.health import ServingStatus

_TEXT = "I love Generative AI"
_IDS = [40, 1842, 2980, 876, 9552]  # by GPT-2's own vocabulary
_ROUND_TRIPS = 5
_SLOW_ROUND_TRIP = 0.1
_TIMEOUT = 10.0
_LIBRARIES = ("grpcio", "protobuf")
_SERVER_LIBRARIES = ("onnxruntime", "nextok-kernels", "tokenizers", "numpy")
# No clock is right that tells less.
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)


class Verdict(StrEnum):
    """What a finding means."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: What.
        verdict: Whether it is as it should be.
        detail: What was found.
        unreachable: Whether it failed since there is no server.
    """

    check: str
    verdict: Verdict
    detail: str
    unreachable: bool = False


def diagnose(connect: Callable[[], Client], target: str) -> Iterator[Finding]:
    """Looks at this machine, the way to a server, and the server; stops where it gets no further.

    Args:
        connect: Opens a client.
        target: What it connects to.
    """
    yield _installed()
    yield _server_extra()
    yield _clock()
    try:
        with connect() as client:
            yield from _server(client, target)
    except NextokError as error:
        lost = isinstance(error, Unavailable)
        yield Finding("server", Verdict.FAILED, f"{target}: {error}", unreachable=lost)


def _installed() -> Finding:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return Finding("client", Verdict.OK, f"nextok {version('nextok')}, {libraries}, {machine}")


def _server_extra() -> Finding:
    """Whether a server could be started here: only what is installed, nothing is loaded."""
    found = {}
    for name in _SERVER_LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    told = ", ".join(f"{name} {number}" for name, number in found.items())
    missing = [name for name in _SERVER_LIBRARIES if name not in found]
    if not found:
        return Finding("server extra", Verdict.OK, "not installed, and a client does not need it")
    if missing:
        text = f"{told}; lacks {', '.join(missing)}: pip install 'nextok[server]'"
        return Finding("server extra", Verdict.WARNING, text)
    return Finding("server extra", Verdict.OK, f"{told}; see nextok-server --check ARTIFACT")


def _clock() -> Finding:
    now = datetime.now(UTC)
    verdict = Verdict.OK if now >= _EARLIEST else Verdict.FAILED
    late = "" if now >= _EARLIEST else ", too early: certificates and tokens will not be believed"
    return Finding("clock", verdict, f"{now:%Y-%m-%d %H:%M:%S} UTC{late}")


def _server(client: Client, target: str) -> Iterator[Finding]:
    # The first call opens the connection, and makes sure of the server if that is asked for.
    status = client.health(timeout=_TIMEOUT)
    serves = status is ServingStatus.SERVING
    yield Finding("health", Verdict.OK if serves else Verdict.FAILED, f"{target} is {status}")
    times = []
    for _ in range(_ROUND_TRIPS):
        began = time.perf_counter()
        model = client.get_model(timeout=_TIMEOUT)
        times.append(time.perf_counter() - began)
    trip = sorted(times)[len(times) // 2]
    slow = trip > _SLOW_ROUND_TRIP
    yield Finding("way", Verdict.WARNING if slow else Verdict.OK, f"{trip * 1e3:.1f} ms to and fro")
    same = model.server_version == version("nextok")
    yield Finding(
        "server",
        Verdict.OK if same else Verdict.WARNING,
        f"nextok {model.server_version}, ONNX Runtime {model.onnxruntime_version}, "
        f"{model.threads} threads" + ("" if same else f"; this client is {version('nextok')}"),
    )
    yield Finding(
        "model",
        Verdict.OK if model.certificate.positions else Verdict.WARNING,
        f"{model.name}, {model.precision}, context {model.context_length}, artifact "
        f"{model.artifact_sha256[:12]}, certified over {model.certificate.positions} positions",
    )
    limits = model.limits
    yield Finding(
        "limits",
        Verdict.OK,
        f"{limits.slots} requests at a time, {limits.max_queue} may wait, "
        f"{limits.max_streams_per_connection} streams a connection, "
        f"{limits.max_prompt_bytes} bytes of text",
    )
    if serves:
        yield from _run(client)


def _run(client: Client) -> Iterator[Finding]:
    """Tokens of a known text, and the distribution of the next one."""
    ids = [token.id for token in client.tokenize(_TEXT, timeout=_TIMEOUT)]
    known = ids == _IDS
    told = f"{_TEXT!r} is {' '.join(map(str, ids))}"
    more = "" if known else ", not as GPT-2's own vocabulary has it"
    yield Finding("tokenizer", Verdict.OK if known else Verdict.WARNING, told + more)
    began = time.perf_counter()
    found = client.next_token(_TEXT, full_vocabulary=True, top_logprobs=1, timeout=_TIMEOUT)
    took = time.perf_counter() - began
    total = math.fsum(map(math.exp, found.full_logprobs))
    yield Finding(
        "one token",
        Verdict.OK if abs(total - 1) < 1e-3 else Verdict.FAILED,
        f"{found.top_logprobs[0].token!r} with logprob {found.top_logprobs[0].logprob:.4f} in "
        f"{took * 1e3:.0f} ms; all probabilities add up to {total:.6f}",
    )
