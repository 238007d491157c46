"""README and docs say what is so: what they show runs, where they point there is something."""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.markdown import anchors, blocks, links

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "bench/README.md",
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "examples/README.md",
        *(ROOT / "examples").glob("*/README.md"),
    ]
)
BLOCKS = [block for page in PAGES for block in blocks(page, ROOT)]
LISTEN = re.compile(r"--listen \S+")


def named(block):
    return block.place


@pytest.fixture(scope="module")
def server(artifacts):
    """The address of a server, and the folder of its artifact."""
    process, target = start(str(artifacts["fp32"]))
    yield target, artifacts["fp32"]
    stop(process)


def start(arguments):
    process = subprocess.Popen(
        f"exec nextok-server {arguments} --listen 127.0.0.1:0 --reflection --no-spinning",
        shell=True,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    line = process.stdout.readline()
    assert line.startswith("nextok: listening on "), line
    return process, line.split()[-1]


def stop(process):
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0


def environment(**more):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "NO_COLOR": "1"} | more


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "python" and not b.not_run], ids=named
)
def test_every_block_of_python_runs(block, server):
    target, _ = server
    code = block.text.replace("localhost:50051", target)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, block.place, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language == "shell" and not b.not_run], ids=named
)
def test_every_block_for_the_shell_runs(block, server, tmp_path):
    target, artifact = server
    (tmp_path / "demo-int8").symlink_to(artifact)
    (tmp_path / "my-text.txt").write_text("Once upon a time there was a little girl.")
    for command in block.text.replace("\\\n", " ").splitlines():
        if command.startswith("nextok-server ") and "--listen" in command:
            process, _ = start(LISTEN.sub("", command).removeprefix("nextok-server "))
            stop(process)
            continue
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace("localhost:50051", target)],
            cwd=tmp_path,
            env=environment(NEXTOK_TARGET=target),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"


def test_every_page_is_a_page_of_the_site_or_says_why_not():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert f": {page.relative_to(ROOT / 'docs')}\n" in navigation


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        if re.match(r"\w+:", path):
            continue
        if path.endswith("reference/wire.md"):
            continue  # made when the site is built, which checks it
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page}: {link}"


def test_the_site_builds_without_a_warning(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env=environment(NO_MKDOCS_2_WARNING="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    for page in ("index.html", "reference/wire/index.html", "reference/python/index.html"):
        html = (tmp_path / page).read_text(encoding="utf-8")
        assert not re.findall(r'(?:src|href)="https?://(?!squidfunk)', html)
