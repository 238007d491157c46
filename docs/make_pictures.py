"""Draws the README's terminal picture from what the command line really prints.

python docs/make_pictures.py      (needs the server and export extras; a minute)
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
WIDTH = 100
COMMANDS = (
    ["next", "Once upon a", "--top", "8"],
    ["generate", "Once upon a", "--max-tokens", "90", "--temperature", "0.8", "--seed", "4"],
)


def terminal_output(command: list[str], target: str) -> str:
    """Runs a command on a terminal of its own and returns what it printed, colours and all."""
    master, slave = pty.openpty()
    environment = {**os.environ, "NEXTOK_TARGET": target, "COLUMNS": str(WIDTH)}
    environment |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(command, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    data = b""
    try:
        while chunk := os.read(master, 65536):
            data += chunk
    except OSError:  # the other end is closed: nothing more comes
        pass
    process.wait()
    os.close(master)
    return data.decode().replace("\r\n", "\n")


def main() -> None:
    """Serves the bundled checkpoint, runs the commands and writes generate.svg."""
    with tempfile.TemporaryDirectory() as folder:
        artifact = str(Path(folder, "artifact"))
        subprocess.run([sys.executable, "-m", "nextok_export", "demo", artifact], check=True)
        server = subprocess.Popen(
            [sys.executable, "-m", "nextok_server", artifact, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        target = server.stdout.readline().split()[-1]
        console = Console(record=True, width=WIDTH, file=io.StringIO())
        for command in COMMANDS:
            console.print(Text("$ nextok " + subprocess.list2cmdline(command), style="bold"))
            output = terminal_output([sys.executable, "-m", "nextok", *command], target)
            console.print(Text.from_ansi(output))
        server.terminate()
        server.wait()
    picture = console.export_svg(title="nextok")
    # The picture fetches nothing: without its own font it takes the reader's monospaced one.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    (HERE / "generate.svg").write_text(picture)


if __name__ == "__main__":
    main()
