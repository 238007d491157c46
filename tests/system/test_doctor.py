"""`nextok doctor` and `nextok-server --check`, as people run them when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest


def doctor(target, *arguments):
    run = subprocess.run(
        [sys.executable, "-m", "nextok", "doctor", "--json", *arguments],
        env={**os.environ, "NEXTOK_TARGET": target},
        capture_output=True,
        text=True,
        check=False,
    )
    findings = [json.loads(line) for line in run.stdout.splitlines()]
    return run.returncode, {f["check"]: (f["verdict"], f["detail"]) for f in findings}


def check(artifact):
    return subprocess.run(
        [sys.executable, "-m", "nextok_server", str(artifact), "--check", "--no-spinning"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_well_server_gets_a_clean_bill(start):
    _, address = start()
    code, findings = doctor(address)
    assert code == 0
    assert {verdict for verdict, _ in findings.values()} == {"ok"}, findings
    assert findings["health"] == ("ok", f"{address} is SERVING")
    assert "40 1842 2980 876 9552" in findings["tokenizer"][1]
    assert "all probabilities add up to 1.0000" in findings["one token"][1]
    assert {"client", "server extra", "clock", "way", "server", "model", "limits"} <= set(findings)


def test_a_server_that_is_not_there_is_named_and_has_an_exit_code_of_its_own():
    code, findings = doctor("127.0.0.1:1")
    assert code == 3
    assert findings["server"][0] == "failed"
    assert findings["server"][1].startswith("127.0.0.1:1: UNAVAILABLE")
    assert findings["client"][0] == "ok"


def test_a_server_that_speaks_tls_is_told_from_one_that_is_broken(start, artifacts, tmp_path):
    import trustme

    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "both.pem"
    )
    both = str(tmp_path / "both.pem")
    _, address = start("--tls-certificate", both, "--tls-key", both)
    assert doctor(address)[0] == 3
    code, findings = doctor(address, "--ca", both)
    assert code == 3
    assert "UNAVAILABLE" in findings["server"][1]


def test_check_proves_an_artifact_and_runs_a_token(artifacts):
    run = check(artifacts["int8"])
    assert run.returncode == 0, run.stderr
    found = dict(line.split(": ", 1) for line in run.stdout.splitlines())
    assert list(found) == ["files", "model", "tokenizer", "graph", "run"]
    assert "40 1842 2980 876 9552" in found["tokenizer"]
    assert "is the likeliest next token" in found["run"]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"no graph"), "has 8 bytes"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "No such file"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "is not JSON"),
    ],
)
def test_check_says_what_is_wrong_with_an_artifact_and_exits_with_1(
    artifacts, tmp_path, harm, message
):
    folder = shutil.copytree(artifacts["fp32"], tmp_path / "artifact")
    harm(folder)
    run = check(folder)
    assert run.returncode == 1
    assert message in run.stderr
    assert "run" not in run.stdout
