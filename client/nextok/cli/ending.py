"""How a command ends: every failure becomes a line on stderr and an exit code.

Knows the exit codes. Does not know what the commands do.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import ParamSpec

import typer

from nextok.errors import NextokError, Unavailable

P = ParamSpec("P")


class ExitCode(IntEnum):
    """What the shell is told."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNREACHABLE = 3
    DIFFERENT = 4
    OTHER_ARTIFACT = 5
    INTERRUPTED = 130
    BROKEN_PIPE = 141


EPILOG = (
    "Exit codes: 0 done, 1 the server answered with an error (or is not ready, a check of the "
    "demo failed, or a run of bench had no answer), 2 wrong usage or a file that cannot be read "
    "or written, 3 the server cannot be reached, 4 a replay differs, 5 a replay met another "
    "artifact, 130 interrupted (Ctrl-C), 141 nobody reads the output any more."
)


class CheckFailed(Exception):
    """Something that a command had to make sure of is not so."""


class BadFile(Exception):
    """A file that cannot be read or written."""


def ends_well(command: Callable[P, None]) -> Callable[P, None]:
    """Wraps a command so that it ends with one of the exit codes, whatever happens."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except NextokError as error:
            unreachable = isinstance(error, Unavailable)
            _end(ExitCode.UNREACHABLE if unreachable else ExitCode.ERROR, str(error))
        except CheckFailed as error:
            _end(ExitCode.ERROR, str(error))
        except BadFile as error:
            _end(ExitCode.USAGE, str(error))
        except KeyboardInterrupt:
            _end(ExitCode.INTERRUPTED)
        except BrokenPipeError:
            # Python flushes stdout once more as it exits, and would complain then.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _end(ExitCode.BROKEN_PIPE)

    return run


def _end(code: ExitCode, message: str = "") -> None:
    if message:
        print(f"nextok: {message}", file=sys.stderr)
    raise typer.Exit(code)
