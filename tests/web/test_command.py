"""`nextok web` as its users start it."""

import json
import signal
import subprocess
import sys
import urllib.request

import pytest


def command(*arguments):
    return [sys.executable, "-m", "nextok", "web", "--listen", "127.0.0.1:0", *arguments]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_with_an_artifact_it_serves_both_and_a_signal_ends_both(artifacts, number):
    process = subprocess.Popen(
        command("--artifact", str(artifacts["fp32"])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        page = process.stdout.readline()
        assert page.startswith("nextok: the page is at http://127.0.0.1:")
        url = page.split()[-1]
        assert process.stdout.readline() == f"nextok: OpenAI's API is at {url}v1\n"
        with urllib.request.urlopen(url + "v1/models") as answer:
            assert json.load(answer)["data"]
        process.send_signal(number)
        assert process.wait(30) == (0 if number == signal.SIGTERM else 130)
        # The server was its child, and held these pipes too.
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--listen", "0.0.0.0:0"], 2, "refusing to listen on 0.0.0.0"),
        (["--listen", "here"], 2, "'here' is not HOST:PORT"),
        (["--keys-file", "absent"], 2, "absent"),
        (["--tls-key", "absent"], 2, "--tls-key is given without --tls-certificate"),
        (["--tls-key", "absent", "--tls-certificate", "absent"], 1, "cannot serve on"),
        (["--listen", "192.0.2.1:80", "--insecure"], 1, "cannot serve on 192.0.2.1:80"),
    ],
)
def test_what_cannot_be_served_ends_with_the_reason(tmp_path, arguments, code, message):
    run = subprocess.run(
        command(*arguments), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == code
    # typer draws a box around it.
    assert message in " ".join(run.stderr.replace("│", " ").split())
