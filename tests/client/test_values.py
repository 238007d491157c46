"""The values: named as the wire, frozen, and complete."""

import copy
import dataclasses
import pickle

import pytest
from google.protobuf.descriptor import FieldDescriptor
from support.fake_service import generation, model, step

import nextok
from nextok import model_replies, replies
from nextok.transcript import Transcript
from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types

WIRE = {
    nextok.TextToken: types.TextToken,
    nextok.Detokenized: pb.DetokenizeResponse,
    nextok.Candidate: types.Candidate,
    nextok.Step: types.Step,
    nextok.Distribution: pb.Distribution,
    nextok.ScoredToken: types.ScoredToken,
    nextok.PromptInfo: pb.PromptInfo,
    nextok.Finish: types.Finish,
    nextok.Usage: types.Usage,
    nextok.Timings: types.Timings,
    nextok.GenerateSummary: pb.GenerateSummary,
    nextok.ScoreTotal: pb.ScoreTotal,
    nextok.ScoreSummary: pb.ScoreSummary,
    nextok.ExploreNode: pb.ExploreNode,
    nextok.ExploreSummary: pb.ExploreSummary,
    nextok.Model: pb.GetModelResponse,
    nextok.Limits: pb.Limits,
    nextok.Certificate: pb.Certificate,
    nextok.Comparison: pb.Certificate.Comparison,
}

# A value of each kind that is unlike the default, so that a swapped field shows.
SAMPLES = {
    FieldDescriptor.CPPTYPE_STRING: lambda n: f"s{n}",
    FieldDescriptor.CPPTYPE_BOOL: bool,
    FieldDescriptor.CPPTYPE_FLOAT: lambda n: n + 0.5,
    FieldDescriptor.CPPTYPE_DOUBLE: lambda n: n + 0.25,
}


@pytest.mark.parametrize("value", WIRE, ids=lambda value: value.__name__)
def test_a_value_has_its_messages_fields_in_their_order(value):
    ours = [field.name for field in dataclasses.fields(value)]
    assert ours == [field.name for field in WIRE[value].DESCRIPTOR.fields]


@pytest.mark.parametrize(
    ("message_class", "read"),
    [
        (types.Candidate, lambda m: replies.candidates([m])[0]),
        (types.TextToken, lambda m: replies.text_tokens([m])[0]),
        (types.Step, replies.step),
        (types.ScoredToken, replies.scored_token),
        (pb.GenerateSummary, replies.generate_summary),
        (pb.ScoreTotal, replies.score_total),
        (pb.ScoreSummary, replies.score_summary),
        (pb.PromptInfo, replies.prompt_info),
        (pb.ExploreNode, replies.explore_node),
    ],
)
def test_every_field_is_read_into_its_own_attribute(message_class, read):
    message = message_class()
    fill(message)
    compare(read(message), message)


def test_every_field_of_the_model_is_read_into_its_own_attribute():
    message = model()
    del message.capabilities[:]
    compare(model_replies.model(message), message)


def fill(message):
    for number, field in enumerate(message.DESCRIPTOR.fields, start=1):
        sample = SAMPLES.get(field.cpp_type, lambda n: n)(number)
        if field.type == FieldDescriptor.TYPE_BYTES:
            sample = sample.encode()
        if field.message_type is not None:
            inner = getattr(message, field.name)
            fill(inner.add() if field.is_repeated else inner)
        elif field.is_repeated:
            getattr(message, field.name).extend([sample, sample])
        else:
            setattr(message, field.name, sample)


def compare(value, message):
    for field in message.DESCRIPTOR.fields:
        ours, theirs = getattr(value, field.name), getattr(message, field.name)
        if field.message_type is None:
            assert (list(ours) if field.is_repeated else ours) == theirs, field.name
        elif field.is_repeated:
            assert len(ours) == len(theirs)
            for one, other in zip(ours, theirs, strict=True):
                compare(one, other)
        else:
            compare(ours, theirs)


def test_values_cannot_be_changed():
    value = replies.step(step(0, "a"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.logprob = 0.0
    with pytest.raises((AttributeError, TypeError)):
        value.other = 0.0


def test_values_can_be_compared_hashed_copied_and_pickled():
    value = replies.step(step(0, "a"))
    assert value == replies.step(step(0, "a")) != replies.step(step(1, "a"))
    assert hash(value) == hash(replies.step(step(0, "a")))
    assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value
    tokens = replies.prompt_info(generation()[0].prompt).tokens
    assert pickle.loads(pickle.dumps(tokens)) == tokens


def test_a_full_vocabulary_can_be_copied_and_pickled():
    message = step(0, "a")
    message.full_logprobs.extend([-1.0, -2.5])
    value = replies.step(message)
    assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value
    assert dataclasses.asdict(value)["full_logprobs"].tolist() == [-1.0, -2.5]


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (nextok.FinishReason, types.FinishReason, "FINISH_REASON_"),
        (nextok.Capability, pb.Capability, "CAPABILITY_"),
    ],
)
def test_an_enum_has_the_wires_names(ours, theirs, prefix):
    names = {name.removeprefix(prefix) for name in theirs.keys()}  # noqa: SIM118 - not a dict
    assert {member.name for member in ours} | {"UNSPECIFIED"} == names


def test_what_is_newer_than_the_client_does_not_break_it():
    finish = replies.finish(types.Finish(finish_reason=99))
    assert finish.finish_reason is nextok.FinishReason.UNSPECIFIED
    assert model_replies.model(pb.GetModelResponse(capabilities=[99, 1])).capabilities == ("score",)


def test_a_transcript_shows_only_what_was_handed_out():
    transcript = Transcript()
    for message in generation("a", "b"):
        transcript.add(message)
    transcript.take()
    assert transcript.text == "a"
    transcript.take()
    assert transcript.take() is None
    assert transcript.text == "ab"
    assert repr(transcript) == "2 steps, length: 'ab'"
