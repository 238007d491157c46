"""The bundled checkpoint, and the walk through it that `nextok demo` takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.checkpoints import export_artifact

from nextok import Client

DEMO = Path(__file__).parents[2] / "export" / "nextok_export" / "demo"


@pytest.fixture(scope="module", params=["fp32", "int8"])
def demo_artifact(request, tmp_path_factory):
    """The demo exported as its users do, with the whole certificate."""
    out = tmp_path_factory.mktemp("demo") / request.param
    return export_artifact("demo", out, request.param, positions=2000)


def test_the_certificate_of_the_demo_keeps_its_bounds(demo_artifact):
    certificate = json.loads((demo_artifact / "certificate.json").read_text())
    assert certificate["positions"] >= 2000
    for comparison in certificate["comparisons"]:
        if certificate["precision"] == "fp32":
            assert comparison["max_abs_logprob_difference"] <= 1e-4
            assert comparison["top1_agreement"] == 1.0
        else:
            assert comparison["mean_kl"] <= 2e-3
    weights = [c["positions"] for c in certificate["comparisons"]]
    agreement = sum(
        c["top1_agreement"] * weight
        for c, weight in zip(certificate["comparisons"], weights, strict=True)
    ) / sum(weights)
    assert agreement >= 0.98


def test_once_upon_a_is_followed_by_time_and_the_demo_ends_well(demo_artifact):
    run = subprocess.run(
        [sys.executable, "-m", "nextok", "demo", "--artifact", str(demo_artifact)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for token_id in ("40", "1842", "2980", "876", "9552"):
        assert token_id in run.stdout


def test_the_most_likely_word_after_once_upon_a_is_time(demo_artifact):
    server = subprocess.Popen(
        [sys.executable, "-m", "nextok_server", str(demo_artifact), "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with server, Client(server.stdout.readline().split()[-1]) as client:
        first = client.next_token("Once upon a", top_logprobs=1).top_logprobs[0]
        server.terminate()
    assert first.token == " time"


def test_the_checkpoint_is_small_and_credits_its_sources():
    files = [path for path in DEMO.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25e6
    card = (DEMO / "README.md").read_text()
    for source in ("FairytaleQA", "Pratham Books StoryWeaver", "African Storybook"):
        assert source in card
    loss = json.loads((DEMO / "training.json").read_text())["validation_loss"]
    assert f"{loss:.2f}" in card
