"""How the log looks: the only place that sets structlog up.

Knows: levels, formats. Does not know: what is logged; never the text of a prompt or completion.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import structlog

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]


class _Unfailing:
    """A stream to log to that loses lines rather than raise: no call fails for a full disk."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def give_up_unwritten() -> None:
    """Leaves lines that standard error never took, as on a full disk: Python would fail to exit."""
    try:
        sys.stderr.flush()
    except OSError:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - stays open


def set_up(level: Level, form: Format, stream: TextIO) -> None:
    """Has everything logged to a stream.

    Args:
        level: The least one that is logged.
        form: auto is console on a terminal and json elsewhere.
        stream: Where to.
    """
    as_console = form == "console" or (form == "auto" and stream.isatty())
    # Not rich's tracebacks, which show the values of variables: a prompt may be among them.
    renderer: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if as_console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if as_console else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Unfailing(stream))),
    )
