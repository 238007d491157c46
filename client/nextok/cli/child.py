"""The export and the server as programs of their own, for the demo.

Knows their command lines and the one line that the server prints. Imports neither of them: all
that the three parts share is the artifact and the wire.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from nextok.cli.ending import CheckFailed
from nextok.errors import NextokError

_READY_SECONDS = 60.0  # loading a GPT-2 takes one or two
_STOP_SECONDS = 30.0
_READY_LINE = "nextok: listening on "
# One library of each extra; where it is missing, the extra is.
_EXTRAS = {"export": "onnx_ir", "server": "onnxruntime"}


def require_extra(extra: str) -> None:
    """Makes sure that an extra is installed.

    Raises:
        CheckFailed: It is not; the text says how to install it.
    """
    if importlib.util.find_spec(_EXTRAS[extra]) is None:
        raise CheckFailed(f"the demo needs more: pip install 'nextok[{extra}]'")


def export(model: str, out: Path, precision: str) -> None:
    """Exports a checkpoint; its progress shows in this terminal.

    Raises:
        CheckFailed: The export ended with another code than 0.
    """
    command = ["nextok_export", model, str(out), "--precision", precision]
    code = subprocess.run([sys.executable, "-m", *command], check=False).returncode
    if code != 0:
        raise CheckFailed(f"the export ended with exit code {code}")


@contextmanager
def serve(artifact: Path) -> Iterator[str]:
    """Serves an artifact on a free port; gives HOST:PORT, and stops the server at the end.

    Raises:
        CheckFailed: It did not get ready, a call to it failed, or it did not stop with exit
            code 0. The text has the end of its log.
    """
    command = [sys.executable, "-m", "nextok_server", str(artifact), "--listen", "127.0.0.1:0"]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None  # it was opened with a pipe
        # Once it is ready, nobody may let the pipe fill up.
        draining = threading.Thread(target=process.stdout.read)
        try:
            target = _wait_until_ready(process, process.stdout, log)
            draining.start()
            yield target
        except NextokError as error:
            raise CheckFailed(f"{error}\n{_tail(log)}") from error
        finally:
            code = _stop(process)
            if draining.ident is not None:
                draining.join()
        if code != 0:
            raise CheckFailed(f"the server ended with exit code {code}\n{_tail(log)}")


def _wait_until_ready(process: subprocess.Popen[str], stdout: IO[str], log: IO[str]) -> str:
    giving_up = threading.Timer(_READY_SECONDS, process.kill)
    giving_up.start()
    try:
        for line in stdout:
            if line.startswith(_READY_LINE):
                return line.removeprefix(_READY_LINE).strip()
    finally:
        giving_up.cancel()
    raise CheckFailed(f"the server did not get ready\n{_tail(log)}")


def _stop(process: subprocess.Popen[str]) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _tail(log: IO[str]) -> str:
    log.seek(0)
    return "".join(log.readlines()[-20:])
