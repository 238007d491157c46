"""Draws README's pictures from what the command line and the example notebook really show.

python docs/make_pictures.py      (needs the extras of `make install`, and Chromium; two minutes)
"""

from __future__ import annotations

import asyncio
import io
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from PIL import Image, ImageChops
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from rich.console import Console
from rich.text import Text

from nextok import AsyncClient
from nextok.explorer.screen import Explorer

HERE = Path(__file__).parent
WIDTH = 100
COMMANDS = (
    ["next", "Once upon a", "--top", "8"],
    ["generate", "Once upon a", "--max-tokens", "90", "--temperature", "0.8", "--seed", "4"],
)
# A first try, another from its fourth token on, and a third one from there.
KEYS = (*"SS", "f", *"uuuuuuuuuuuuuuuu", "down", "enter", *"SS", "0", "f", *"uuuuuuuuuu", "t")
KEYS = (*KEYS, "space", *"dragon", "enter", *"Ss", "down", "down")
# Cells of the notebook to show, by their numbers.
CELLS = (2, 4, 8, 10)
PAGE_WIDTH = 860
PAGE = """<!doctype html><meta charset=utf-8><style>
body { font: 15px/1.5 sans-serif; margin: 16px; color: #222; background: #fff }
.in { display: flex; gap: 8px; align-items: baseline; margin: 14px 0 6px }
.in b { font: 12px monospace; color: #307fc1; min-width: 2.6em }
.in pre { background: #f5f6f7; border: 1px solid #e0e2e4; padding: 6px 10px; margin: 0; flex: 1;
  white-space: pre-wrap }
.out { margin-left: 3.4em }
pre { font: 13px/1.4 monospace; margin: 4px 0 }
table { border-collapse: collapse; font-size: 13px; margin: 4px 0 }
td, th { padding: 2px 12px }
tr:nth-child(even) { background: #f7f8f9 }
</style>BODY"""


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


def draw_commands(target: str) -> None:
    """Runs the commands and writes generate.svg."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    for command in COMMANDS:
        console.print(Text("$ nextok " + subprocess.list2cmdline(command), style="bold"))
        output = terminal_output([sys.executable, "-m", "nextok", *command], target)
        console.print(Text.from_ansi(output))
    write_svg("generate.svg", console.export_svg(title="nextok"))


async def draw_explorer(target: str) -> None:
    """Steps through a text as a person would, and writes step.svg."""
    explorer = Explorer(
        lambda: AsyncClient(target),
        lambda client: client.interact(
            "Once upon a time there was", temperature=0.8, top_k=12, seed=5, top_logprobs=50
        ),
    )
    async with explorer.run_test(size=(WIDTH, 30)) as pilot:
        await explorer.settled()
        for key in KEYS:
            await pilot.press(key)
            await explorer.settled()
        await pilot.pause()
        write_svg("step.svg", explorer.export_screenshot())


def write_svg(name: str, picture: str) -> None:
    """Writes a picture that fetches nothing.

    Without its own font it takes the reader's monospaced one.
    """
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    (HERE / name).write_text(picture, encoding="utf-8")


def draw_notebook(target: str, folder: Path) -> None:
    """Executes the example notebook, and writes notebook.png: some of its cells."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("notebook.png needs Chromium: apt-get install chromium")
    os.environ["NEXTOK_TARGET"] = target
    notebook = nbformat.read(HERE.parent / "examples/one-token-at-a-time.ipynb", as_version=4)
    manager = AsyncKernelManager(kernel_name="python3", transport="ipc")
    NotebookClient(notebook, km=manager, timeout=120).execute()
    page, picture = folder / "notebook.html", folder / "notebook.png"
    page.write_text(notebook_page(notebook.cells), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    size = [f"--window-size={PAGE_WIDTH},4000", "--force-device-scale-factor=1.5"]
    command = [browser, *flags, *size, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    with Image.open(picture) as shot:
        whole = shot.convert("RGB")
    # What is below the last cell is white.
    box = ImageChops.difference(whole, Image.new("RGB", whole.size, "white")).getbbox()
    assert box is not None
    cropped = whole.crop((0, 0, whole.width, box[3] + 24))
    cropped.quantize(128).save(HERE / "notebook.png", optimize=True)


def notebook_page(cells: list[nbformat.NotebookNode]) -> str:
    """The page of some cells, as a notebook shows them."""
    formatter = HtmlFormatter(noclasses=True, nowrap=True)
    body = ""
    number = 0
    for cell in cells:
        if cell.cell_type != "code":
            continue
        number += 1
        if number not in CELLS:
            continue
        code = highlight(cell.source, PythonLexer(), formatter)
        body += f"<div class=in><b>[{number}]:</b><pre>{code}</pre></div>"
        for output in cell.outputs:
            data = output.get("data", {})
            shown = data.get("text/html") or f"<pre>{escape(output.get('text', ''))}</pre>"
            body += f"<div class=out>{shown}</div>"
    return PAGE.replace("BODY", body)


def main() -> None:
    """Serves the bundled checkpoint, and draws everything."""
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
        draw_commands(target)
        asyncio.run(draw_explorer(target))
        draw_notebook(target, Path(folder))
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
