"""What the load generator runs on, and the memory of a server on the same machine.

Knows /proc, where Linux tells these things. What cannot be known is None, not guessed.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class ClientMachine:
    """The load generator's machine and libraries; the server's may be others.

    Attributes:
        processor: Name of the processor.
        processors: Logical processors that this process may use.
        system: Operating system.
        python: Version of Python.
        nextok: Version of nextok.
        grpcio: Version of grpcio.
        protobuf: Version of protobuf.
    """

    processor: str
    processors: int
    system: str
    python: str
    nextok: str
    grpcio: str
    protobuf: str


def client_machine() -> ClientMachine:
    """Looks at the machine that this process runs on."""
    return ClientMachine(
        processor=_processor(),
        processors=_processors(),
        system=platform.platform(),
        python=platform.python_version(),
        nextok=version("nextok"),
        grpcio=version("grpcio"),
        protobuf=version("protobuf"),
    )


def load_average() -> float | None:
    """Returns how many processes wanted a processor in the last minute; None if unknown."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        for line in (_PROC / "cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


class ServerMemory:
    """The resident memory of a process on this machine.

    Args:
        pid: The process.

    Raises:
        ValueError: There is no such process here, or the system does not tell its memory.
    """

    def __init__(self, pid: int) -> None:
        self._status = _PROC / str(pid) / "status"
        if self.read() == (None, None):
            raise ValueError(f"{self._status} does not tell the memory of a process")

    def read(self) -> tuple[int | None, int | None]:
        """Returns what is resident now, and the most that ever was, in bytes.

        Both are None once the process has gone.
        """
        try:
            lines = self._status.read_text(encoding="utf-8").splitlines()
        except OSError:
            return None, None
        sizes = dict(line.split(":", 1) for line in lines)
        return _bytes(sizes.get("VmRSS")), _bytes(sizes.get("VmHWM"))


def _bytes(kilobytes: str | None) -> int | None:
    # A process that has ended and was not waited for has a status without them.
    return None if kilobytes is None else int(kilobytes.split()[0]) * 1024
