"""TLS and tokens from the command line, as the docs say: files, variables, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib

import pytest
import trustme
from support.certificates import write


def run(module, *arguments, **environment):
    variables = {name: value for name, value in os.environ.items() if "NEXTOK" not in name}
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**variables, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def new_token(path, name, *flags):
    made = run("nextok_server", "token", name, *flags)
    assert made.returncode == 0, made.stderr
    with path.open("a") as file:
        file.write(made.stdout)
    return made.stderr.strip()


@pytest.fixture
def guarded(start, tmp_path):
    """A server with TLS, clients' certificates and tokens; what it takes to ask it."""
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    server, client = write(tmp_path / "server", authority), write(tmp_path / "client", authority)
    tokens, token_file = tmp_path / "tokens.toml", tmp_path / "token"
    token = new_token(tokens, "alice", "--scope", "model", "--days", "2")
    token_file.write_text(token + "\n")
    _, address = start(
        *("--tls-certificate", str(server.certificate), "--tls-key", str(server.key)),
        *("--tls-client-ca", str(ca), "--tokens-file", str(tokens)),
    )
    way = ("--target", address, "--ca", ca)
    shown = ("--cert", client.certificate, "--key", client.key)
    return way, shown, token, token_file


def test_the_options_say_who_is_trusted_and_who_asks(guarded):
    way, shown, token, token_file = guarded
    ask = ("nextok", "tokenize", "hello", *way)
    for answered in (
        run(*ask, *shown, "--token-file", token_file),
        run(*ask, *shown, NEXTOK_TOKEN=token),
        run(
            *ask[:3],
            NEXTOK_TARGET=str(way[1]),
            NEXTOK_CA=str(way[3]),
            NEXTOK_CERT=str(shown[1]),
            NEXTOK_KEY=str(shown[3]),
            NEXTOK_TOKEN=token,
        ),
    ):
        assert answered.returncode == 0, answered.stderr
        assert "hello" in answered.stdout
        assert token not in answered.stdout + answered.stderr


def test_what_is_missing_is_told_by_text_and_exit_code(guarded, tmp_path):
    way, shown, token, token_file = guarded
    ask = ("nextok", "tokenize", "hello", *way)
    for arguments, code, text in (
        ((*ask, *shown), 1, "UNAUTHENTICATED"),
        ((*ask, "--token-file", token_file), 3, "UNAVAILABLE"),
        (("nextok", "tokenize", "hello", *way[:2], "--tls"), 3, "UNAVAILABLE"),
        ((*ask, *shown[:2], "--token-file", token_file), 2, "certificate: is given without key"),
        ((*ask, *shown, "--token-file", tmp_path / "absent"), 2, "No such file"),
        ((*ask[:-1], token_file), 2, "holds no PEM"),
    ):
        ended = run(*arguments)
        assert (ended.returncode, text in ended.stderr) == (code, True), ended.stderr
        assert token not in ended.stdout + ended.stderr
    generated = run("nextok", "generate", "hello", *way, *shown, "--token-file", token_file)
    assert generated.returncode == 1
    assert "has no scope 'generate'" in generated.stderr


def test_a_token_is_not_sent_to_another_machine_in_the_clear():
    sent = run("nextok", "tokenize", "x", "--target", "192.0.2.1:50051", NEXTOK_TOKEN="nextok_abc")
    assert sent.returncode == 2
    assert "in the clear" in sent.stderr
    assert "nextok_abc" not in sent.stderr


def test_the_token_command_writes_an_entry_without_the_token(tmp_path):
    path = tmp_path / "tokens.toml"
    tokens = [new_token(path, "alice", "--scope", "generate", "--scope", "score", "--days", "90")]
    tokens.append(new_token(path, "bob"))
    alice, bob = tomllib.loads(path.read_text())["tokens"]
    assert (alice["name"], alice["scopes"]) == ("alice", ["generate", "score"])
    assert alice["expires"].tzinfo is not None
    assert (bob["name"], len(bob["scopes"]), "expires" in bob) == ("bob", 3, False)
    assert len(set(tokens)) == 2
    assert not any(token in path.read_text() for token in tokens)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a b",), "name is 'a b'"),
        (("alice", "--days", "0"), "--days is 0, expected 1 to 36500"),
        (("alice", "--scope", "all"), "invalid choice: 'all'"),
        ((), "the following arguments are required: NAME"),
    ],
)
def test_the_token_command_says_what_is_wrong_and_exits_with_2(arguments, message):
    made = run("nextok_server", "token", *arguments)
    assert made.returncode == 2
    assert message in made.stderr
    assert made.stdout == ""


def test_a_server_open_to_others_refuses_to_start_and_says_what_to_do(artifacts):
    for flags, missing in (
        ((), ("--tls-certificate", "--tokens-file", "--insecure")),
        (("--metrics-listen", "0.0.0.0:0", "--insecure"), ("--metrics-in-clear",)),
    ):
        ended = run("nextok_server", artifacts["fp32"], "--listen", "0.0.0.0:0", *flags)
        assert ended.returncode == 2
        assert all(flag in ended.stderr for flag in missing), ended.stderr
