"""The example for Node, against a real server."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nextok import Client

EXAMPLE = Path(__file__).parents[2] / "examples" / "node"
pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (EXAMPLE / "node_modules").is_dir(),
    reason="needs Node and npm: make test installs what the example needs",
)


def run(target):
    return subprocess.run(
        ["node", str(EXAMPLE / "next-tokens.js"), target],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_example_prints_the_sentences_tokens_and_each_step_with_its_five_likeliest(start):
    _, target = start("--no-spinning")
    result = run(target)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.rstrip("\n").split("\n")
    assert [line.split(maxsplit=1) for line in lines[:5]] == [
        ["40", '"I"'],
        ["1842", '" love"'],
        ["2980", '" Gener"'],
        ["876", '"ative"'],
        ["9552", '" AI"'],
    ]
    with Client(target) as client:
        generation = client.generate(
            "I love Generative AI", temperature=0.8, seed=7, max_tokens=8, top_logprobs=5
        )
        steps = list(generation)
    assert len(lines) == 5 + len(steps) + 1
    for line in lines[5:-1]:
        assert len(re.findall(r"\d\.\d\d%", line)) == 5
    assert lines[-1].split() == ["FINISH_REASON_LENGTH", generation.finish.digest]


def test_where_nobody_listens_the_example_says_so_and_fails():
    result = run("127.0.0.1:1")
    assert result.returncode == 1
    assert "UNAVAILABLE" in result.stderr
