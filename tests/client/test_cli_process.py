"""What only a process of its own shows: terminals, pipes, signals, missing libraries."""

import os
import pty
import signal
import subprocess
import sys

import pytest
from support.fake_service import PATIENCE_SECONDS, Hold, first, generation, step

from nextok.v1 import text_generation_pb2 as pb


def start(*arguments, target, **options):
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    env |= {"NEXTOK_TARGET": target, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    env |= options.pop("env", {})
    return subprocess.Popen([sys.executable, "-m", "nextok", *arguments], env=env, **options)


def shown_in_a_terminal(*arguments, target, env=None):
    ours, theirs = pty.openpty()
    with start(*arguments, target=target, env=env or {}, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how a terminal says that nobody writes to it any more
                break
            if not part:
                break
            shown += part
    os.close(ours)
    assert process.returncode == 0
    return shown.decode()


def test_in_a_terminal_tokens_are_shaded_by_surprisal(target, service):
    steps = [step(0, "dull", prob=0.999), step(1, "odd", prob=0.0004)]
    service.script = [first(), pb.GenerateResponse(steps=steps)]
    shown = shown_in_a_terminal("generate", "x", target=target)
    assert "\x1b[30;48;2;255,".replace(",", ";") in shown
    before, _, after = shown.partition("odd")
    assert before.startswith("dull")
    assert after.startswith("\x1b[0m")


@pytest.mark.parametrize("command", [["generate"], ["generate", "--top", "2"], ["next"]], ids=str)
def test_where_no_color_is_set_a_terminal_gets_no_control_codes(target, command):
    shown = shown_in_a_terminal(*command, "x", target=target, env={"NO_COLOR": "1"})
    assert "and" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("command", [["generate"], ["next"], ["tokenize"]], ids=str)
def test_a_pipe_gets_no_control_codes(target, command):
    with start(
        *command, "x", target=target, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert out
    assert b"\x1b" not in out + err


def test_steps_are_written_as_they_come(target, service):
    service.script = [*generation("a")[:2], Hold()]
    with start(
        "generate", "x", "--json", target=target, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert b'"token": "a"' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert (out, err) == (b"", b"")
    assert service.given_up.wait(PATIENCE_SECONDS)


def test_a_reader_that_leaves_ends_it_quietly_and_cancels(target, service):
    service.script = [*generation(*["x"] * 2000)[:-1], Hold()]
    with start(
        "generate", "x", "--json", target=target, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        process.wait(PATIENCE_SECONDS)
    assert process.returncode == 141
    assert err == b""
    assert service.given_up.wait(PATIENCE_SECONDS)


def test_a_terminal_without_unicode_is_no_reason_to_fail(target):
    env = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for arguments in (["next", "x"], ["generate", "x", "--json"]):
        with start(*arguments, target=target, env=env, stdout=subprocess.PIPE) as process:
            out, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
        assert out.isascii()


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install(missing):
    code = f"import sys; sys.modules['{missing}'] = None; from nextok.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "pip install 'nextok[cli]'" in result.stderr
    assert "Traceback" not in result.stderr
