"""Reliability 14: what callers write is in no log, no metric and no error of ours."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from support.serving import generate_request

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import text_generation_pb2_grpc as pb_grpc

SECRET = "xylophonesecret"
BAD: list[Callable[[pb.GenerateRequest], Any]] = [
    lambda request: setattr(request.sampling, "temperature", -1),
    lambda request: request.stop_conditions.stop.append(SECRET * 100),
    lambda request: setattr(request.prompt, "text", SECRET * 10_000),
    lambda request: setattr(request.constraint, "regex", SECRET + "("),
    lambda request: setattr(request.constraint, "json_schema", '{"' + SECRET),
    lambda request: setattr(request.stop_conditions, "max_tokens", 0),
]


def leaks(process: subprocess.Popen[str], address: str, metrics: str) -> dict[str, int]:
    """Sends prompts with a secret, good and bad ones; counts where it comes out."""
    found = dict.fromkeys(("answers", "log", "metrics"), 0)
    secrets = [SECRET]
    with grpc.insecure_channel(address) as channel:
        stub = pb_grpc.TextGenerationServiceStub(channel)
        stub.Tokenize(pb.TokenizeRequest(text=SECRET))
        stub.Detokenize(pb.DetokenizeRequest(token_ids=[5]))
        list(stub.Score(pb.ScoreRequest(prompt={"text": SECRET})))
        good = generate_request(SECRET, max_tokens=12, ignore_eos=True, stop=[SECRET])
        text = "".join(step.delta for reply in stub.Generate(good) for step in reply.steps)
        secrets.append(text.strip())
        for spoil in BAD:
            bad = pb.GenerateRequest()
            bad.CopyFrom(good)
            spoil(bad)
            metadata = (("x-request-id", "visible"), ("x-other", SECRET))
            with pytest.raises(grpc.RpcError) as raised:
                list(stub.Generate(bad, metadata=metadata))
            error = raised.value
            told = f"{error.details()} {error.trailing_metadata()}"
            # A parser's own message may quote the grammar to the one who wrote it.
            found["answers"] += SECRET in told and not bad.HasField("constraint")
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=30) as page:
        content = page.read().decode()
    process.terminate()
    _, log = process.communicate(timeout=30)
    assert "nextok:requests_total" in content
    assert '"refused"' in log
    found["metrics"] = sum(secret in content for secret in secrets)
    found["log"] = sum(secret in log for secret in secrets)
    return found


FLAGS = ("--metrics-listen", "127.0.0.1:0", "--log-level", "info")


def started(start, **options) -> tuple[subprocess.Popen[str], str, str]:
    process, address = start(*FLAGS, **options)
    line = process.stdout.readline()
    assert "metrics on" in line, line
    return process, address, line.split()[-1]


def test_no_prompt_and_no_completion_comes_out_but_to_its_caller(start, figures):
    found = leaks(*started(start))
    figures.add(
        14,
        f"privacy: a prompt's text {found['log']} times in the log, {found['metrics']} in metrics, "
        f"{found['answers']} in {len(BAD)} errors (bounds: 0)",
        **found,
    )
    assert found == {"answers": 0, "log": 0, "metrics": 0}


def test_the_check_finds_a_log_line_with_a_prompt(start):
    assert leaks(*started(start, fault="talkative"))["log"] > 0
