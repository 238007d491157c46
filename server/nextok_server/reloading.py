"""A value read from files, read again when one of them changes.

Knows: files' stamps, how to keep the old value. Does not know: what the files hold.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

_log = structlog.get_logger(__name__)
T = TypeVar("T")
# Of each file: what changes when it is written or replaced, links to it included.
_Stamp = tuple[tuple[int, int, int, int] | None, ...]


class Reloading(Generic[T]):
    """Safe to use from several threads.

    Args:
        what: Names the value in the log.
        paths: The files that it is read from.
        read: Reads it; raises OSError or ValueError where they cannot be used.

    Raises:
        OSError: A file cannot be read.
        ValueError: A file does not hold what it should.
    """

    def __init__(self, what: str, paths: Sequence[Path], read: Callable[[], T]) -> None:
        self._what = what
        self._paths = paths
        self._read = read
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._value = read()

    def current(self) -> T:
        """The value; read anew if a file has changed and what it holds now can be used.

        Where it cannot, the value stays as it was and the log says why, once a change. Files
        that change while they are read are looked at again with the next call.
        """
        with self._lock:
            stamp = self._stamp()
            if stamp == self._seen:
                return self._value
            try:
                value = self._read()
            except (OSError, ValueError) as error:
                if stamp == self._stamp():
                    self._seen = stamp
                    _log.error("reload_failed", what=self._what, error=str(error))
                return self._value
            if stamp == self._stamp():
                self._seen = stamp
                self._value = value
                _log.info("reloaded", what=self._what)
            return self._value

    def _stamp(self) -> _Stamp:
        return tuple(_file_stamp(path) for path in self._paths)


def _file_stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
