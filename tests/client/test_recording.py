"""Recordings, what is refused as one, and replays: on both clients where a server is asked."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.broken_streams import IDS, STEPS, WHOLE, behind, steps
from support.fake_service import ARTIFACT, LOST, PATIENCE_SECONDS, Hold, first, last

from nextok import Difference, Internal, Recording, RecordingError
from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types

OPTIONS = {
    "temperature": 0.7,
    "top_p": 0.9,
    "logit_bias": {3: -0.1, 50256: 100.0},
    "stop": ["\n", "\u65e5"],
    "max_tokens": 4,
}


async def recorded(hands, target, **options):
    return (await hands.read(target, **options)).recording()


def line_of(recording, number):
    return json.loads(recording.dumps().splitlines()[number - 1])


@pytest.mark.parametrize("drafts", [False, True])
async def test_a_recording_has_the_request_the_artifact_the_steps_and_the_end(
    hands, target, service, drafts
):
    told = first()
    told.prompt.drafts = drafts
    service.script = [told, *WHOLE[1:]]
    recording = await recorded(hands, target, **OPTIONS)
    request = pb.GenerateRequest()
    request.CopyFrom(service.requests[0])
    request.sampling.seed = 7
    request.drafts = drafts
    assert recording.request == request
    assert recording.artifact_sha256 == ARTIFACT
    assert [(s.index, s.id, s.logprob) for s in recording.steps] == [
        (s.index, s.id, s.logprob) for s in STEPS
    ]
    assert recording.finish.digest == "ab" * 32


async def test_a_recording_is_read_as_it_was_written(hands, target, service):
    service.script = WHOLE
    recording = await recorded(hands, target, **OPTIONS, seed=2**64 - 1)
    text = recording.dumps()
    assert text.isascii()
    assert Recording.loads(text) == Recording.loads(text.encode()) == recording
    assert [list(json.loads(line)) for line in text.splitlines()] == [
        ["recording", "artifact_sha256", "request"],
        *[["index", "id", "logprob"]] * 4,
        ["finish"],
    ]


@pytest.mark.parametrize("bits", ["80000000", "00000001", "c2fe0000", "bf317218", "ff7fffff"])
async def test_log_probabilities_come_back_with_every_bit(hands, target, service, bits):
    (value,) = struct.unpack(">f", bytes.fromhex(bits))
    odd = types.Step(id=1, logprob=value)
    service.script = [first(), *steps(odd), last(1)]
    recording = Recording.loads((await recorded(hands, target)).dumps())
    assert struct.pack(">f", recording.steps[0].logprob).hex() == bits


async def test_a_stream_that_broke_is_recorded_as_one_that_did_not(hands, target, service):
    service.script = WHOLE
    whole = await recorded(hands, target)
    service.scripts = [[*WHOLE[:5], LOST], behind(2)]
    assert await recorded(hands, target) == whole


async def test_nothing_is_recorded_before_the_end(hands, target, service):
    service.script = [*WHOLE[:5], Hold()]
    async with hands.open(target) as client, hands.inside(client.generate("x")) as running:
        with pytest.raises(RuntimeError, match="has not ended"):
            running.recording()
        await hands.next(running)
        with pytest.raises(RuntimeError, match="has not ended"):
            running.recording()


async def test_nothing_is_recorded_of_a_server_that_does_not_name_its_artifact(
    hands, target, service
):
    unnamed = first()
    unnamed.prompt.artifact_sha256 = ""
    service.script = [unnamed, last(0)]
    with pytest.raises(Internal, match="did not name its artifact"):
        await recorded(hands, target)


# Replays.


async def replayed(hands, target, recording):
    async with hands.open(target) as client:
        return await hands.get(client.replay(recording))


async def test_a_replay_of_the_same_is_identical_and_asks_for_the_same(hands, target, service):
    service.script = WHOLE
    recording = await recorded(hands, target, **OPTIONS)
    result = await replayed(hands, target, Recording.loads(recording.dumps()))
    assert (result.identical, result.difference) == (True, None)
    assert (result.steps, result.digest) == (4, "ab" * 32)
    assert service.requests[1] == recording.request


async def test_a_replay_comes_over_a_break(hands, target, service, short_pauses):
    service.script = WHOLE
    recording = await recorded(hands, target)
    service.scripts = [[*WHOLE[:5], LOST], behind(2)]
    assert (await replayed(hands, target, recording)).identical


def changed(message, **fields):
    copy = type(message)()
    copy.CopyFrom(message)
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


def ended(**fields):
    end = last(4)
    for name, value in fields.items():
        setattr(end.finish, name, value)
    return end


NEXT_FLOAT = struct.unpack(
    "<f", struct.pack("<i", 1 + struct.unpack("<i", struct.pack("<f", STEPS[1].logprob))[0])
)[0]
STOP = types.FINISH_REASON_STOP


@pytest.mark.parametrize(
    ("messages", "difference"),
    [
        ([*steps(STEPS[0], changed(STEPS[1], id=9)), last(4)], Difference(1, "id", IDS[1], 9)),
        (
            [*steps(STEPS[0], changed(STEPS[1], logprob=NEXT_FLOAT), *STEPS[2:]), last(4)],
            Difference(1, "logprob", STEPS[1].logprob, NEXT_FLOAT),
        ),
        ([*steps(*STEPS[:3]), last(3)], Difference(3, "id", IDS[3], None)),
        (
            [*steps(*STEPS, changed(STEPS[3], index=4, id=5)), last(5)],
            Difference(4, "id", None, 5),
        ),
        (
            [*steps(*STEPS), ended(finish_reason=STOP, stop="!")],
            Difference(None, "finish_reason", "length", "stop"),
        ),
        ([*steps(*STEPS), ended(stop="!")], Difference(None, "stop", None, "!")),
        ([*steps(*STEPS), ended(stop_token_id=0)], Difference(None, "stop_token_id", None, 0)),
        ([*steps(*STEPS), ended(eos_token_id=3)], Difference(None, "eos_token_id", None, 3)),
        (
            [*steps(*STEPS), ended(digest="cd" * 32)],
            Difference(None, "digest", "ab" * 32, "cd" * 32),
        ),
        (steps(*STEPS), Difference(None, "finish_reason", "length", None)),
    ],
    ids=["id", "one bit", "shorter", "longer", "reason", "stop", "token", "eos", "digest", "none"],
)
async def test_a_replay_tells_the_first_difference(hands, target, service, messages, difference):
    service.script = WHOLE
    recording = await recorded(hands, target)
    service.script = [first(), *messages]
    result = await replayed(hands, target, recording)
    assert (result.identical, result.difference) == (False, difference)


async def test_a_replay_on_another_artifact_is_given_up(hands, target, service):
    service.script = WHOLE
    recording = await recorded(hands, target)
    other = first()
    other.prompt.artifact_sha256 = "cc" * 32
    service.script = [other, *steps(*STEPS), Hold()]
    async with hands.open(target) as client:
        result = await hands.get(client.replay(recording))
        assert service.given_up.wait(PATIENCE_SECONDS)
    assert not result.identical
    assert result.difference == Difference(None, "artifact_sha256", ARTIFACT, "cc" * 32)


# What is no recording.

HEAD = {
    "recording": 1,
    "artifact_sha256": ARTIFACT,
    "request": {"prompt": {"text": "x"}, "sampling": {"seed": "7"}},
}
STEP = {"index": 0, "id": 21, "logprob": -0.5}
END = {
    "finish_reason": "length",
    "stop": None,
    "stop_token_id": None,
    "eos_token_id": None,
    "completion_tokens": 1,
    "digest": "ab" * 32,
}
LINES = [HEAD, STEP, {"finish": END}]


def with_change(number, **fields):
    lines = [dict(line) for line in LINES]
    lines[number - 1].update(fields)
    return lines


def without(number, name):
    lines = [dict(line) for line in LINES]
    del lines[number - 1][name]
    return lines


def with_end(**fields):
    return [HEAD, STEP, {"finish": {**END, **fields}}]


def test_what_the_refused_ones_are_made_from_is_a_recording():
    text = "\n".join(map(json.dumps, LINES))
    assert Recording.loads(text).steps[0].logprob == -0.5


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "line 1: is missing"),
        (LINES[:1], "line 2: finish is missing: the recording is cut off"),
        (LINES[:2], "line 3: finish is missing: the recording is cut off"),
        ([HEAD, {"finish": END}], "line 2: finish.completion_tokens is 1, with 0 tokens before"),
        ([*LINES, STEP], "line 4: is one too many"),
        ([HEAD, [], STEP], "line 2: is [], and has to be an object"),
        (without(1, "recording"), "line 1: recording is missing"),
        (with_change(1, recording=2), "line 1: recording is version 2, this client reads 1"),
        (with_change(1, recording=True), "line 1: recording is true, and has to be an integer"),
        (with_change(1, artifact_sha256="aa"), 'line 1: artifact_sha256 is "aa", and has to be 64'),
        (with_change(1, request=[]), "line 1: request is [], and has to be an object"),
        (with_change(1, request={"n0": 1}), "line 1: request is no GenerateRequest: "),
        (with_change(1, request={}), "line 1: request.sampling.seed is missing"),
        (with_change(1, more=1), "line 1: more is unknown"),
        (with_change(2, index=1), "line 2: index is 1, and has to be 0"),
        (with_change(2, id=-1), "line 2: id is -1, the range is 0 to 4294967295"),
        (with_change(2, id=1.0), "line 2: id is 1.0, and has to be an integer"),
        (with_change(2, logprob=-0.1), "line 2: logprob is -0.1, which is no finite float32"),
        (with_change(2, logprob=float("nan")), "line 2: logprob is nan, which is no finite"),
        (with_change(2, logprob=-1e300), "line 2: logprob is -1e+300, which is no finite float32"),
        (with_change(2, logprob="-1"), 'line 2: logprob is "-1", and has to be a floating'),
        (without(2, "logprob"), "line 2: logprob is missing"),
        (with_end(finish_reason="tired"), "line 3: finish.finish_reason is 'tired', and has to be"),
        (with_end(digest=None), "line 3: finish.digest is null, and has to be a string"),
        (with_end(stop=1), "line 3: finish.stop is 1, and has to be a string"),
        (with_end(eos_token_id=2**32), "line 3: finish.eos_token_id is 4294967296, the range"),
        (with_end(more="x" * 999), "line 3: finish.more is unknown"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_with_its_line_and_field(lines, told):
    with pytest.raises(RecordingError) as caught:
        Recording.loads("".join(json.dumps(line) + "\n" for line in lines))
    assert str(caught.value).startswith(told)
    assert told.startswith(f"line {caught.value.line}: {caught.value.field}")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_line_that_is_cut_off_or_not_utf8_is_named(number):
    good = [json.dumps(line).encode() for line in LINES]
    for bad in (good[number - 1][:-5], b"\xff" + good[number - 1], b"", b"[" * 100_000):
        lines = [*good[: number - 1], bad, *good[number:], b""]
        with pytest.raises(RecordingError, match=f"line {number}: is not JSON"):
            Recording.loads(b"\n".join(lines))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["prompt", "sampling", "seed", "logit_bias", "ids", "text", "1"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@given(VALUES)
def test_no_request_whatever_is_in_it_raises_anything_else(request_):
    text = "\n".join(map(json.dumps, with_change(1, request=request_)))
    try:
        recording = Recording.loads(text)
    except RecordingError as error:
        named = (error.line, error.field.partition(".")[0])
    else:
        assert Recording.loads(recording.dumps()) == recording
        named = (1, "request")
    assert named == (1, "request")
