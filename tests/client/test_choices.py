"""Several completions of one prompt, read and gone on with: one suite, run on both clients."""

import dataclasses
import json

import grpc
import pytest
from support.fake_service import LOST, Hold, Refuse, first, step
from typer.testing import CliRunner

from nextok import Client, Internal, Recording, RecordingError
from nextok.cli.app import app
from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types

pytestmark = pytest.mark.usefixtures("short_pauses")

SEED = 2**64 - 1
TEXTS = [" a b", " c d", " e f"]
SCORED = [types.ScoredToken(position=i, id=40 + i) for i in range(5)]


def opening(seed=SEED):
    message = first()
    message.prompt.seed = seed
    return message


def steps_of(choice, start=0):
    words = [" " + word for word in TEXTS[choice].split()]
    found = []
    for index, word in enumerate(words[start:], start):
        found.append(step(index, word, token_id=100 * choice + index))
        found[-1].choice = choice
    return found


def end_of(choice):
    return types.Finish(
        choice=choice,
        finish_reason=types.FINISH_REASON_LENGTH,
        completion_tokens=2,
        digest=f"{choice:02}" * 32,
    )


def summary(tokens):
    return pb.GenerateSummary(usage=types.Usage(prompt_tokens=5, completion_tokens=tokens))


def message(*steps, **fields):
    return pb.GenerateResponse(steps=steps, **fields)


def mixed():
    """A whole generation of three, the second of which ends first."""
    (a, b), (c, d), (e, f) = map(steps_of, range(3))
    return [
        opening(),
        message(prompt_logprobs=SCORED),
        message(a, c, e),
        message(d, finish=end_of(1)),
        message(b, f, finish=end_of(2)),
        message(finish=end_of(0), summary=summary(6)),
    ]


def behind(choice, start):
    """What a server sends that goes on with one of them alone."""
    sent = [opening((SEED + choice) % 2**64)]
    for one in steps_of(choice, start):
        one.choice = 0
        sent.append(message(one))
    end = end_of(choice)
    end.choice = 0
    return [*sent, message(finish=end, summary=summary(2))]


def all_but_time(choices):
    return [
        dataclasses.replace(
            choice,
            steps=tuple(dataclasses.replace(s, elapsed_seconds=0.0) for s in choice.steps),
        )
        for choice in choices
    ]


async def test_steps_come_mixed_and_are_sorted_out(hands, target, service):
    service.script = mixed()
    running = await hands.read(target, n=3)
    assert service.requests[0].n == 3
    assert [step.choice for step in running.steps] == [0, 1, 2, 1, 0, 2]
    assert [choice.text for choice in running.choices] == TEXTS
    assert [choice.seed for choice in running.choices] == [SEED, 0, 1]
    assert [choice.finish.digest[:2] for choice in running.choices] == ["00", "01", "02"]
    assert [finish.choice for finish in running.finishes] == [1, 2, 0]
    assert (running.text, running.finish) == (TEXTS[0], running.choices[0].finish)
    assert repr(running).endswith("6 steps, 3 of 3 completions finished>")


async def test_inside_the_loop_choices_end_with_the_step_that_the_loop_is_at(
    hands, target, service
):
    service.script = [opening(), message(*(s for c in range(3) for s in steps_of(c))), Hold()]
    async with hands.open(target) as client:
        running = client.generate("x", n=3)
        async for _ in hands.each(running):
            if len(running.steps) == 3:
                break
        assert [choice.text for choice in running.choices] == [" a b", " c", ""]
        assert [choice.finish for choice in running.choices] == [None] * 3
        running.cancel()


@pytest.mark.parametrize("sent", range(7))
async def test_a_stream_that_breaks_anywhere_comes_through(hands, target, service, sent):
    service.script = mixed()
    whole = await hands.read(target, n=3, seed=SEED)
    del service.requests[:]
    # How many tokens of each are there, and which have ended.
    there = [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 1, 1], [1, 2, 1], [2, 2, 2], [2, 2, 2]][sent]
    ended = [[], [], [], [], [1], [1, 2], [0, 1, 2]][sent]
    left = [choice for choice in range(3) if choice not in ended]
    resumed = [behind(choice, there[choice]) for choice in left] if sent > 2 else [mixed()]
    service.scripts = [[*mixed()[:sent], LOST], *resumed]
    running = await hands.read(target, n=3, seed=SEED)
    assert all_but_time(running.choices) == all_but_time(whole.choices)
    assert running.prompt_logprobs == whole.prompt_logprobs
    assert running.summary.usage == whole.summary.usage
    assert running.resumed == len(service.requests) - 1
    if sent > 2:
        assert [
            (r.n, r.sampling.seed, list(r.resume_token_ids), r.prompt_logprobs)
            for r in service.requests[1:]
        ] == [
            (
                0,
                (SEED + c) % 2**64,
                whole.steps and [s.id for s in whole.choices[c].steps][: there[c]],
                False,
            )
            for c in left
        ]
    elif sent < 6:
        assert [request.n for request in service.requests] == [3, 3]


async def test_a_call_that_breaks_again_is_gone_on_with_before_the_next(hands, target, service):
    service.scripts = [
        [*mixed()[:3], LOST],
        [*behind(0, 1)[:2], LOST],
        behind(0, 2),
        [*behind(1, 1), LOST],
        behind(2, 1),
    ]
    running = await hands.read(target, n=3)
    assert [choice.text for choice in running.choices] == TEXTS
    assert running.summary.usage.completion_tokens == 6
    assert running.resumed == 4


async def test_an_error_of_another_kind_is_raised_and_what_came_is_kept(hands, target, service):
    refusal = Refuse(grpc.StatusCode.INTERNAL, "broken")
    service.scripts = [[*mixed()[:3], LOST], behind(0, 1), [refusal]]
    async with hands.open(target) as client:
        running = client.generate("x", n=3)
        with pytest.raises(Internal, match="broken"):
            await hands.all(running)
    assert [choice.text for choice in running.choices] == [" a b", " c", " e"]
    assert running.summary is None


async def test_a_completion_that_nobody_asked_for_is_an_error(hands, target, service):
    service.script = [opening(), message(*steps_of(2))]
    async with hands.open(target) as client:
        with pytest.raises(Internal, match="completion 2, the range is 0 to 1"):
            await hands.all(client.generate("x", n=2))


async def test_each_completion_is_recorded_as_a_request_of_its_own(hands, target, service):
    service.script = mixed()
    running = await hands.read(target, n=3, temperature=0.5)
    for number, seed in enumerate([SEED, 0, 1]):
        recording = running.recording(number)
        assert (recording.request.n, recording.request.sampling.seed) == (0, seed)
        assert recording.request.sampling.temperature == 0.5
        assert [s.id for s in recording.steps] == [100 * number, 100 * number + 1]
        assert Recording.loads(recording.dumps()) == recording
    with pytest.raises(ValueError, match="choice: is 3, the range is 0 to 2"):
        running.recording(3)
    lines = running.recording(1).dumps().splitlines()
    head = json.loads(lines[0])
    head["request"]["n"] = 3
    with pytest.raises(RecordingError, match=r"request\.n is 3, and has to be 1"):
        Recording.loads("\n".join([json.dumps(head), *lines[1:]]))


@pytest.fixture
def nextok(target, service):
    service.script = [mixed()[0], *mixed()[2:]]

    def run(*arguments):
        env = {"NEXTOK_TARGET": target, "COLUMNS": "100"}
        return CliRunner().invoke(app, ["generate", "x", *arguments], env=env)

    return run


def test_the_command_line_shows_one_completion_after_the_other(nextok, service):
    result = nextok("--n", "3")
    assert result.exit_code == 0, result.output
    assert result.stdout == "".join(text + "\n" for text in TEXTS)
    told = result.stderr.splitlines()
    assert told[:3] == [f"choice {number}: length, 2 tokens" for number in range(3)]
    assert told[3].startswith("3 completions, 6 tokens")
    assert service.requests[0].n == 3


def test_with_candidates_it_is_a_line_a_step_in_the_same_order(nextok):
    shown = nextok("--n", "3", "--top", "2").stdout.splitlines()
    assert [line.split()[1] + line.split()[2] for line in shown] == [
        f"'{word}'" for text in TEXTS for word in text.split()
    ]


def test_json_has_steps_as_they_come_and_each_names_its_choice(nextok):
    steps = [json.loads(line) for line in nextok("--n", "3", "--json").stdout.splitlines()]
    assert [step["choice"] for step in steps] == [0, 1, 2, 1, 0, 2]


def test_json_events_have_every_finish(nextok):
    events = [json.loads(line) for line in nextok("--n", "3", "--json-events").stdout.splitlines()]
    assert [key for event in events[-4:] for key in event] == ["finish"] * 3 + ["summary"]
    assert [event["finish"]["choice"] for event in events[-4:-1]] == [1, 2, 0]


def test_several_are_not_recorded_into_one_file(nextok, service, tmp_path):
    result = nextok("--n", "2", "--record", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert not service.requests


def test_a_notebook_shows_a_paragraph_for_each(target, service):
    service.script = mixed()
    with Client(target) as client:
        running = client.generate("x", n=3)
        list(running)
    shown = running._repr_html_()
    assert shown.count("2 tokens, length") == 3
    assert shown.count("white-space:pre-wrap") == 3
