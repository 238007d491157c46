"""What the page's own requests are answered with."""

import json
import urllib.error
import urllib.request
from asyncio import to_thread

import pytest
from support.serving import generate

from nextok.web.throughput import WINDOW_SECONDS, Throughput


async def ask(page, path, body=None):
    """Status and text of an answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(page + path, data, {"Content-Type": "application/json"})

    def run():
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await to_thread(run)


def events(text):
    return [json.loads(part.removeprefix("data: ")) for part in text.split("\n\n")[:-1]]


async def test_a_branch_goes_on_with_the_bits_of_an_uninterrupted_generation(site, server):
    sampling = {"temperature": 0.9, "top_k": 50, "frequency_penalty": 0.5, "seed": 9}
    whole = await generate(server, "Once upon a", max_tokens=20, top_logprobs=4, **sampling)
    branch = {"prompt": "Once upon a", "path": whole.ids[:8], "top_logprobs": 4, **sampling}
    _, answer = await ask(site, "api/generate", {**branch, "max_tokens": 12})
    told = events(answer)
    steps = [event["step"] for event in told if "step" in event]
    assert [(step["id"], step["logprob"], step["entropy"]) for step in steps] == whole.bits[8:]
    assert [step["prob"] for step in steps] == [step.prob for step in whole.steps[8:]]
    assert told[-1]["finish"]["digest"] == whole.finish.digest
    _, answer = await ask(site, "api/next", branch)
    step = json.loads(answer)["step"]
    assert (step["id"], step["logprob"], step["entropy"]) == whole.bits[8]


async def test_a_branch_that_fills_the_context_has_no_next_step(site):
    _, answer = await ask(site, "api/next", {"prompt": [40] * 128, "path": [40]})
    assert json.loads(answer)["step"] is None


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("next", {"prompt": ""}, "prompt has 0 tokens, the range is 1 to 128"),
        ("next", {"prompt": "x", "path": [50257]}, "is 50257, the range is 0 to 50256"),
        ("next", {"prompt": "x", "temperature": 101}, "temperature is 101, the range is 0 to 100"),
        ("generate", {"prompt": "x", "max_tokens": 0}, "max_tokens is 0, the least is 1"),
        ("generate", {"prompt": "x", "top_logprobs": 99}, "the range is 0 to "),
        ("generate", {"prompt": "x", "other": 1}, "other is not a field of this request"),
        ("score", {"prompt": ""}, "prompt has 0 tokens"),
        ("tokenize", {"text": 1}, "text is 1, expected a string"),
        ("tokenize", {"text": "\ud800"}, "text has half of a surrogate pair at 0"),
    ],
)
async def test_bad_values_are_refused_by_name(site, path, body, message):
    status, answer = await ask(site, f"api/{path}", body)
    assert status == 400
    assert message in json.loads(answer)["error"]["message"]


async def test_the_state_counts_the_tokens_of_the_last_seconds(site):
    await ask(site, "api/generate", {"prompt": "x", "max_tokens": 20, "seed": 1})
    _, after = await ask(site, "api/state")
    state = json.loads(after)
    assert state["serving"]
    assert state["tokens_per_second"] >= 20 / WINDOW_SECONDS


def test_throughput_is_of_the_window_and_keeps_little():
    now = 100.0
    throughput = Throughput(lambda: now)
    for _ in range(10_000):
        now += 0.001
        throughput.add()
    assert throughput.rate() == pytest.approx(1000, rel=0.03)
    assert len(throughput._counts) <= 51
    now += WINDOW_SECONDS + 1
    assert throughput.rate() == 0
