"""Runs of a graph that go on from the tokens that they gave: the same as one run a token."""

from __future__ import annotations

import math

import numpy as np
import pytest
from nextok_kernels.course import BatchChooser, Interrupt
from nextok_kernels.sampling import Chooser, pack_request
from support.checkpoints import export_artifact, make_checkpoint

from nextok_server.artifact import load_artifact
from nextok_server.model import Chunk, Model

CONTEXT, VOCABULARY, STEPS, ROWS = 64, 320, 12, 3
# The rows' tokens come from different places of the vocabulary.
FIRST = (11, 200, 7)
INVERSE = (1.0, 1.25, 1.0)


def requested(row, position=0):
    return pack_request(
        row,
        told=5,
        greedy=row == 0,
        top_k=40,
        top_p=0.9 if row == 2 else 1.0,
        min_p=0.0,
        inverse_temperature=INVERSE[row],
        seed=row,
        position=position,
    )


@pytest.fixture(scope="module", params=["fp32", "int8", "int4", "relu"])
def artifact(request, tmp_path_factory):
    """One for each kind of weights, and one whose activation is ONNX Runtime's."""
    folder = tmp_path_factory.mktemp(request.param)
    other = {"activation_function": "relu"} if request.param == "relu" else {}
    checkpoint = make_checkpoint(
        folder / "checkpoint", width=256, vocabulary=VOCABULARY, context=CONTEXT, **other
    )
    precision = "fp32" if request.param == "relu" else request.param
    return load_artifact(export_artifact(checkpoint, folder / "artifact", precision))


@pytest.fixture
def model(artifact):
    return Model(artifact, slots=ROWS, chunk=8, tokens=8, threads=2, spinning=False)


def compute(model, ids, position):
    chunks = [Chunk(row, position, [token], range(1)) for row, token in enumerate(ids)]
    return model.forward(chunks, list(INVERSE), logit_max=False, temperature_mass=True)


def choose(outputs, position):
    """What each row's next token is."""
    packed, chooser = outputs.packed, Chooser()
    return [chooser.choose(packed, requested(row, position)) for row in range(ROWS)]


def ids_of(chosen):
    return [each.token_id for each in chosen]


def one_by_one(model):
    """What was chosen in each step, and the log probabilities of the last one."""
    known = [choose(compute(model, FIRST, 0), STEPS)]
    for position in range(STEPS):
        outputs = compute(model, ids_of(known[-1]), position + 1)
        known.append(choose(outputs, position))
    return known[1:], outputs.logprobs.copy()


class Course:
    """Steps behind the first tokens, several a run."""

    def __init__(self, model, *, ends=(), most=100):
        first = choose(compute(model, FIRST, 0), STEPS)
        self.model = model
        self.interrupt = Interrupt()
        tokens = model.tokens(ROWS)
        tokens.ids[:] = ids_of(first)
        tokens.positions[:] = 1
        self.chooser = BatchChooser(
            [requested(row) for row in range(ROWS)],
            tokens.outputs.packed,
            input_ids=tokens.ids.ctypes.data,
            position_ids=tokens.positions.ctypes.data,
            ends=ends,
            interrupt=self.interrupt,
            most=most,
        )

    def run(self, most=STEPS, seconds=math.inf):
        """What was chosen in each step of a run, and the log probabilities of its last one."""
        logprobs = self.model.again(self.chooser, most, seconds).logprobs
        assert self.chooser.settled
        seconds = self.chooser.seconds
        assert seconds == sorted(seconds)
        choices = self.chooser.choices
        known = [[self.chooser.chosen(each, row) for row in range(ROWS)] for each in choices]
        return known, logprobs

    def run_out(self):
        """Goes on until there is no place for another token."""
        while True:
            self.run()


def goes_on(model):
    """Whether all operators of a graph are nextok's."""
    return len(Course(model).run(2)[0]) == 2


def test_a_run_gives_the_bits_that_one_run_a_token_gives(model):
    expected, last = one_by_one(model)
    course, known = Course(model), []
    while len(known) < STEPS:
        steps, logprobs = course.run(STEPS - len(known))
        known += steps
    assert known == expected
    np.testing.assert_array_equal(logprobs, last)


def test_a_run_goes_on_where_all_operators_are_nextoks(model, artifact):
    assert goes_on(model) == ("relu" not in str(artifact.folder))


def test_a_run_ends_behind_a_token_that_ends_a_row(model):
    expected, _ = one_by_one(model)
    end = ids_of(expected[5])[1]
    count = 1 + min(i for i, step in enumerate(expected) if end in ids_of(step))
    course, known = Course(model, ends=[VOCABULARY - 1, end]), []
    while not known or end not in ids_of(known[-1]):
        known += course.run()[0]
    assert known == expected[:count]


def test_a_run_ends_when_it_is_interrupted_or_has_no_time_left(model):
    course = Course(model)
    course.interrupt.set()
    assert len(course.run()[0]) == 1
    course.interrupt.clear()
    assert len(course.run(seconds=0.0)[0]) == 1
    assert len(course.run(seconds=-1.0)[0]) == 1


def test_a_run_gives_no_more_tokens_than_there_is_room_for(model):
    course = Course(model, most=3)
    assert len(course.run()[0]) == (3 if goes_on(model) else 1)


@pytest.mark.parametrize("left", [0, 2])
def test_a_run_that_fails_leaves_nothing_behind(model, left):
    expected, _ = one_by_one(model)
    course = Course(model)
    model.tokens(ROWS).positions[:] = CONTEXT - left
    with pytest.raises(Exception, match=f"position_ids holds {CONTEXT}; allowed: 0 to"):
        course.run_out()
    done = course.chooser.choices
    compute(model, FIRST, 0)
    assert course.chooser.choices == done
    assert Course(model).run(1)[0] == expected[:1]
