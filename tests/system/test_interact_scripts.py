"""Random scripts of 200 actions over eight branches: each ends as a fresh run of its tokens.

A few scripts by default. NEXTOK_INTERACT_SCRIPTS says how many for each artifact; they are then
random ones rather than the same each time. NEXTOK_INTERACT_ARTIFACTS names other artifacts, with
the system's separator of paths between them.
"""

from __future__ import annotations

import os
import queue
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import grpc
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from support.checkpoints import export_artifact
from support.interacting import action, start_request
from support.serving import generate_request

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import text_generation_pb2_grpc as pb_grpc
from nextok_server.digest import completion_digest
from nextok_server.sampling import SamplingParams
from nextok_server.sequence import Request, StopParams

# Of a script: that many actions at least, with some readings of answers between them.
ACTIONS = 200
STEPS = 240
BRANCHES = 8
SCRIPTS = int(os.environ.get("NEXTOK_INTERACT_SCRIPTS", "6"))
ARTIFACTS = os.environ.get("NEXTOK_INTERACT_ARTIFACTS", "")
SHOWN = {"top_logprobs": 4}
# What is done, as often as it is listed: there are to be many branches.
KINDS = (
    *("pick", "force", "sample", "sample", "sample_otherwise", "rewind"),
    *("fork", "fork", "switch", "drop", "read"),
)


def random_sampling(random: Random) -> dict:
    """A seed, and some of the sampler's other parameters."""
    some = {
        "temperature": [0.0, 0.5, 1.0],
        "top_k": [0, 5],
        "repetition_penalty": [1.0, 1.25],
        "presence_penalty": [0.0, 0.5],
    }
    chosen = {name: random.choice(values) for name, values in some.items() if random.random() < 0.5}
    return {"seed": random.randrange(10), **chosen}


@dataclass
class Branch:
    """What is known of a branch, and what it will be when everything is answered."""

    number: int
    length: int = 0
    sampling: dict = field(default_factory=dict)
    steps: list = field(default_factory=list)
    distribution: pb.Distribution | None = None


@dataclass
class Expected:
    """An action that is not answered: what its answer has to say."""

    index: int
    branch: Branch
    kind: str
    given: list = field(default_factory=list)
    count: int = 0
    origin: Branch | None = None
    sampling: dict | None = None


def what_is_told(message) -> tuple:
    return (
        [candidate.SerializeToString(deterministic=True) for candidate in message.top_logprobs],
        message.entropy,
        message.margin,
    )


class Scripts(RuleBasedStateMachine):
    """One call. Actions are sent ahead, and answers read now and then."""

    stub: pb_grpc.TextGenerationServiceStub
    artifact_sha256: str
    context: int
    vocabulary: int
    # Scripts that were as long and as wide as they are to be, and actions of all of them.
    done = 0
    acted = 0

    # All that happens comes from one seed: where Hypothesis draws each action, most scripts are
    # others with a few actions changed, and lack whole kinds.
    @initialize(random=st.randoms(use_true_random=True))
    def begin(self, random):
        self.random = random
        length = random.randint(1, 40)
        self.prompt = prompt = [(31 * length + 7 * n) % self.vocabulary for n in range(length)]
        sampling = random_sampling(random)
        self.requests = queue.SimpleQueue()
        self.call = self.stub.Interact(iter(self.requests.get, None))
        self.requests.put(start_request(prompt, **sampling, **SHOWN))
        self.sampling = sampling
        root = Branch(0, sampling=sampling)
        self.branches = {0: root}
        self.current: Branch | None = root
        self.made = self.sent = 1
        self.expected = deque([Expected(0, root, "start")])
        self.actions = 0
        self.most = 1

    @rule()
    def act_at_random(self):
        getattr(self, self.random.choice(KINDS))(self.random.randrange(2) == 1)

    def pick(self, implied):
        branch = self.choose(implied, room=1)
        if branch:
            branch.length += 1
            token = self.random.randrange(self.vocabulary)
            self.act("pick", branch, implied, given=[token], fields={"token_id": token})

    def force(self, implied):
        ids = [self.random.randrange(self.vocabulary) for _ in range(self.random.randint(1, 5))]
        branch = self.choose(implied, room=len(ids))
        if branch:
            branch.length += len(ids)
            self.act("force", branch, implied, given=ids, fields={"tokens": ids})

    def sample(self, implied):
        count = self.random.randint(1, 4)
        branch = self.choose(implied, room=count)
        if branch:
            branch.length += count
            self.act("sample", branch, implied, count=count, fields={"count": count})

    def sample_otherwise(self, implied):
        branch = self.choose(implied, room=1)
        if branch:
            branch.length += 1
            sampling = random_sampling(self.random)
            self.act("sample", branch, implied, 1, sampling=sampling, fields={"sampling": sampling})

    def rewind(self, implied):
        self.take_back(self.choose(implied, room=0), implied, self.random.randint(0, 6))

    def fork(self, implied):
        if len(self.branches) == BRANCHES:
            self.drop(implied)
        origin = self.choose(implied, room=0)
        copy = self.branches[self.made] = Branch(self.made, origin.length)
        self.made += 1
        self.most = max(self.most, len(self.branches))
        self.act("fork", origin, implied, answer=copy)

    def switch(self, _implied):
        branch = self.choose(implied=False, room=0)
        self.act("switch", branch, False)
        self.current = branch

    def drop(self, implied):
        if len(self.branches) == 1:
            return
        branch = self.choose(implied, room=0)
        self.act("drop", branch, implied)
        del self.branches[branch.number]
        if branch is self.current:
            self.current = None

    def read(self, _implied):
        for _ in range(min(self.random.randint(1, 30), len(self.expected))):
            self.read_answer()

    def choose(self, implied, room) -> Branch | None:
        """A branch, the current one if it is not to be named; None where there is no room in it."""
        everyone = list(self.branches.values())
        branch = self.current if implied and self.current else self.random.choice(everyone)
        if len(self.prompt) + branch.length + room <= self.context:
            return branch
        self.take_back(branch, implied, 20)
        return None

    def take_back(self, branch, implied, count) -> None:
        count = min(count, branch.length)
        branch.length -= count
        self.act("rewind", branch, implied, count=count, fields={"count": count})

    def act(
        self, kind, branch, implied, count=0, given=(), answer=None, sampling=None, fields=None
    ) -> None:
        named = not (implied and branch is self.current)
        self.requests.put(action(kind, branch.number if named else None, **(fields or {})))
        expected = Expected(self.sent, answer or branch, kind, list(given), count, branch, sampling)
        self.expected.append(expected)
        self.sent += 1
        self.actions += 1

    # The answers.

    def read_answer(self) -> None:
        expected = self.expected.popleft()
        branch = expected.branch
        for left in reversed(range(max(1, expected.count if expected.kind == "sample" else 1))):
            answer = next(self.call)
            assert answer.action_index == expected.index
            assert answer.branch_id == branch.number
            self.take(expected, branch, answer)
            if left:
                assert len(answer.steps) == 1

    def take(self, expected: Expected, branch: Branch, answer: pb.InteractResponse) -> None:
        if expected.kind == "drop":
            assert not answer.HasField("distribution")
            return
        if expected.kind == "fork":
            branch.steps = list(expected.origin.steps)
            branch.sampling = expected.origin.sampling
            assert what_is_told(answer.distribution) == what_is_told(expected.origin.distribution)
        if expected.kind == "rewind":
            del branch.steps[len(branch.steps) - expected.count :]
        if expected.kind == "sample":
            assert not answer.steps[0].forced
        elif expected.given:
            assert [step.id for step in answer.steps] == expected.given
        else:
            assert not answer.steps
        if answer.steps and expected.sampling is None:
            assert what_is_told(answer.steps[0]) == what_is_told(branch.distribution)
        branch.sampling = expected.sampling or branch.sampling
        for step in answer.steps:
            assert step.index == len(branch.steps)
            branch.steps.append(step)
        branch.distribution = answer.distribution
        assert answer.distribution.position == len(self.prompt) + len(branch.steps)

    def teardown(self) -> None:
        if not hasattr(self, "call"):
            return
        try:
            # Hypothesis ends a few scripts before they have begun.
            while self.actions < ACTIONS or self.most < BRANCHES:
                self.act_at_random()
            while self.expected:
                self.read_answer()
            for branch in self.branches.values():
                self.compare(branch)
            self.requests.put(action("stop"))
            assert next(self.call).HasField("summary")
            assert next(self.call, None) is None
            type(self).done += 1
            type(self).acted += self.actions
        finally:
            self.requests.put(None)
            self.call.cancel()

    def compare(self, branch: Branch) -> None:
        """Every bit of a branch with those of a run of its tokens."""
        ids = [step.id for step in branch.steps]
        request = generate_request(
            self.prompt,
            resume_token_ids=ids,
            max_tokens=len(ids) + 1,
            ignore_eos=True,
            drafts=False,
            **branch.sampling,
            **SHOWN,
        )
        *_, last = self.stub.Generate(request)
        (step,) = last.steps
        assert what_is_told(step) == what_is_told(branch.distribution)
        sampling = SamplingParams(**branch.sampling)
        own = Request(tuple(self.prompt), sampling, StopParams(len(ids) + 1))
        logprobs = [told.logprob for told in branch.steps]
        digest = completion_digest(
            self.artifact_sha256, own, [*ids, step.id], [*logprobs, step.logprob]
        )
        assert last.finish.digest == digest


@pytest.fixture(params=["nextok", "onnxruntime"])
def artifact(request, small, small_checkpoint, tmp_path) -> Path:
    """An artifact of each kind of operators, or those that are named."""
    if ARTIFACTS:
        return Path(ARTIFACTS.split(os.pathsep)[request.param_index])
    if request.param == "nextok":
        return small["int8"]
    return export_artifact(small_checkpoint, tmp_path / "artifact", "int8", operators=request.param)


def test_every_branch_of_a_random_script_ends_as_a_fresh_run_of_its_tokens(artifact, start):
    # Fewer slots than branches, and hardly any patience: branches are parked all the time.
    flags = ("--slots", "5", "--branch-idle-seconds", "0.02", "--retained-mb", "1")
    _, target = start(*flags, artifact=artifact)
    with grpc.insecure_channel(target) as channel:
        stub = pb_grpc.TextGenerationServiceStub(channel)
        info = stub.GetModel(pb.GetModelRequest())
        fields = {
            "stub": stub,
            "artifact_sha256": info.artifact_sha256,
            "context": info.context_length,
            "vocabulary": info.vocabulary_size,
        }
        machine = type("Script", (Scripts,), fields)
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=SCRIPTS,
                stateful_step_count=STEPS,
                derandomize="NEXTOK_INTERACT_SCRIPTS" not in os.environ,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
    print(f"{machine.done} scripts, {machine.acted} actions: {artifact.name}")
    assert machine.done >= SCRIPTS
