"""The programs as their users start them: separate processes, real sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from nextok import Client


def nextok(*arguments, target):
    return subprocess.run(
        [sys.executable, "-m", "nextok", *arguments],
        env={**os.environ, "NEXTOK_TARGET": target},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_with_0(start, small, number):
    process, address = start(artifact=small["fp32"])
    with Client(address) as client:
        assert client.tokenize("hello")
    process.send_signal(number)
    assert process.wait(30) == 0


def test_logs_are_json_on_standard_error_and_hold_no_text(start):
    process, address = start("--log-level", "debug")
    with Client(address) as client:
        text = "".join(step.delta for step in client.generate("secretprompt", max_tokens=5))
    process.terminate()
    _, errors = process.communicate(timeout=30)
    events = [json.loads(line) for line in errors.splitlines()]
    assert {"ready", "generated"} <= {event["event"] for event in events}
    assert "secretprompt" not in errors
    assert text.strip() not in errors


def test_generate_json_gives_one_object_a_step_with_torchs_probabilities(start, torch_logprobs):
    _, address = start()
    arguments = ("Once upon a", "--max-tokens", "40", "--top", "5", "--json")
    run = nextok("generate", *arguments, target=address)
    assert run.returncode == 0, run.stderr
    steps = [json.loads(line) for line in run.stdout.splitlines()]
    assert [step["index"] for step in steps] == list(range(len(steps)))
    with Client(address) as client:
        prompt = [token.id for token in client.tokenize("Once upon a")]
    expected = torch_logprobs(prompt + [step["id"] for step in steps])
    for index, step in enumerate(steps):
        row = expected[len(prompt) + index - 1]
        assert step["logprob"] == pytest.approx(row[step["id"]], abs=1e-4)
        assert len(step["top_logprobs"]) == 5
        for candidate in step["top_logprobs"]:
            assert candidate["logprob"] == pytest.approx(row[candidate["id"]], abs=1e-4)


def test_the_seeds_table_comes_from_the_command_line(start):
    _, address = start()
    run = nextok("tokenize", "I love Generative AI", "--json", target=address)
    tokens = [json.loads(line) for line in run.stdout.splitlines()]
    assert [token["id"] for token in tokens] == [40, 1842, 2980, 876, 9552]


def test_show_config_tells_where_each_value_came_from(artifacts):
    run = subprocess.run(
        [sys.executable, "-m", "nextok_server", "x", "--slots", "4", "--show-config"],
        env={**os.environ, "NEXTOK_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = run.stdout.splitlines()
    assert "slots = 4  (flag)" in lines
    assert "threads = 1  (environment)" in lines
    assert "prefill_chunk = 64  (default)" in lines


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["absent"], 1, "manifest.json: No such file"),
        (["absent", "--slots", "-1"], 2, "slots = '-1' (flag)"),
        ([], 2, "artifact is missing"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_its_exit_code(tmp_path, arguments, code, message):
    run = subprocess.run(
        [sys.executable, "-m", "nextok_server", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == code
    assert message in run.stderr


def test_an_address_in_use_is_named(start, small):
    _, address = start(artifact=small["fp32"])
    run = subprocess.run(
        [sys.executable, "-m", "nextok_server", str(small["fp32"]), "--listen", address],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert f"cannot listen on {address}" in run.stderr


def test_a_recording_replays_to_the_bit_on_another_server_and_not_on_another_artifact(
    start, small, tmp_path
):
    _, one = start(artifact=small["fp32"])
    _, other = start("--threads", "1", artifact=small["fp32"])
    _, rounded = start(artifact=small["int8"])
    file = str(tmp_path / "recording")
    asked = ("--max-tokens", "20", "--temperature", "0.9", "--record", file)
    run = nextok("generate", "Once upon a", *asked, target=one)
    assert run.returncode == 0, run.stderr
    for target, code in ((one, 0), (other, 0), (rounded, 5)):
        run = nextok("replay", file, "--json", target=target)
        assert run.returncode == code, run.stderr
        assert json.loads(run.stdout)["identical"] == (code == 0)
