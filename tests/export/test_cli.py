"""The command: what it prints, and how it ends."""

from __future__ import annotations

import json

import pytest
from support.checkpoints import make_checkpoint
from typer.testing import CliRunner

from nextok_export.__main__ import app


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "tiny-gpt2"
    return make_checkpoint(folder, width=32, heads=2, layers=1, vocabulary=300, context=32)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_an_export_ends_with_0_and_tells_each_stage_on_a_plain_line(small, tmp_path):
    result = run(small, tmp_path / "out", "--precision", "int4", "--block-size", 32)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    stages = ["Checkpoint", "Reference", "Graph", "Certificate", "Artifact"]
    assert [line.split()[1] for line in lines if line.startswith("✓")] == stages
    assert "\x1b" not in result.stdout
    for part in ("int4, blocks of 32", "kB", "top-1 agreement", "approximate", "context_end"):
        assert part in result.stdout
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["model_name"] == "tiny-gpt2"
    assert manifest["block_size"] == 32
    assert json.loads((tmp_path / "out" / "certificate.json").read_text())["positions"] >= 2000


def test_a_bad_option_ends_with_2(small, tmp_path):
    result = run(small, tmp_path / "out", "--precision", "fp16")
    assert result.exit_code == 2
    assert "'fp16'" in result.stderr
    assert "fp32, int8, int4" in result.stderr
    assert run(small, tmp_path / "out", "--no-such-option").exit_code == 2
    assert run(small).exit_code == 2
    assert not (tmp_path / "out").exists()


def test_an_unsupported_model_ends_with_3(tmp_path):
    folder = make_checkpoint(
        tmp_path / "model",
        width=32,
        heads=2,
        layers=1,
        vocabulary=300,
        context=32,
        add_cross_attention=True,
    )
    result = run(folder, tmp_path / "out")
    assert result.exit_code == 3
    assert "add_cross_attention is True; supported: False" in result.stderr
    assert "✓" not in result.stdout


def test_a_failed_certificate_ends_with_4_and_leaves_nothing(small, tmp_path, monkeypatch):
    from nextok_export.certificate import TOLERANCE

    monkeypatch.setitem(TOLERANCE, "max_abs_logprob_difference", 1e-12)
    result = run(small, tmp_path / "out", "--precision", "fp32")
    assert result.exit_code == 4
    assert "max_abs_logprob_difference" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_ends_with_5(small, tmp_path, monkeypatch):
    import nextok_export.pipeline as pipeline

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline, "write_json", full)
    result = run(small, tmp_path / "out")
    assert result.exit_code == 5
    assert "No space left" in result.stderr
    assert not list(tmp_path.iterdir())


def test_the_help_tells_the_exit_codes():
    result = run("--help")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    for code in ("0 the artifact", "2 an option", "3 the checkpoint", "4 the certificate", "5 a"):
        assert code in text
