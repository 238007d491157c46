"""What the branches of an interactive generation hold, and which actions are still unanswered.

Knows the messages of Interact, that they are answered in order, and what an answer does to its
branch. Does not know how messages travel, which is why the sync and the asyncio session share it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc

from nextok import notebook, replies
from nextok.errors import Internal
from nextok.requests import sampling_params
from nextok.tokens import NO_TOKENS
from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types
from nextok.values import Distribution, GenerateSummary, PromptInfo, Step


@dataclass
class BranchState:
    """One branch, as far as the answers have told.

    Attributes:
        branch_id: Number of the branch, 0 for the first.
        sampling: How its tokens are drawn.
        steps: Tokens behind the prompt, each with what it was chosen from.
        distribution: What could come next; None before the first answer.
        dropped: Whether it was given up.
    """

    branch_id: int
    sampling: types.SamplingParams
    steps: list[Step] = field(default_factory=list)
    distribution: Distribution | None = None
    dropped: bool = False


@dataclass
class Pending:
    """An action that was sent.

    Attributes:
        request: The action.
        branch: That it is about; for a fork, the new one, once it is there.
        steps: That it appended so far.
        done: Whether it is answered.
    """

    request: pb.InteractRequest
    branch: BranchState
    steps: list[Step] = field(default_factory=list)
    done: bool = False

    @property
    def kind(self) -> str:
        """The action's name on the wire."""
        return self.request.WhichOneof("action") or ""


class Interaction:
    """What an interactive generation has said so far. One message changes it at a time.

    Args:
        request: That it begins with.

    Attributes:
        prompt: What the prompt was read as, once that has come.
        branches: Those that were not dropped, by number.
        current: The branch that was switched to last.
        summary: The whole call, counted, once it has ended.
    """

    def __init__(self, request: pb.InteractRequest) -> None:
        sampling = types.SamplingParams()
        sampling.CopyFrom(request.start.sampling)
        self.current = BranchState(0, sampling)
        self.branches: dict[int, BranchState] = {0: self.current}
        self.prompt: PromptInfo | None = None
        self.summary: GenerateSummary | None = None
        self._sent = 0
        self._pending: deque[tuple[int, Pending]] = deque()

    def expect(self, request: pb.InteractRequest, branch: BranchState) -> Pending:
        """Notes an action that is sent now, behind those before it."""
        pending = Pending(request, branch)
        self._pending.append((self._sent, pending))
        self._sent += 1
        return pending

    def add(self, message: pb.InteractResponse) -> None:
        """Takes in the next answer.

        Raises:
            Internal: It answers nothing that was asked.
        """
        if not self._pending or self._pending[0][0] != message.action_index:
            raise Internal(
                grpc.StatusCode.INTERNAL,
                f"an answer to action {message.action_index}, which is not the next one to answer",
            )
        pending = self._pending[0][1]
        if message.HasField("prompt"):
            self.prompt = replies.prompt_info(message.prompt)
            if self.prompt.seed:
                # Said again with every change of how tokens are drawn, so that it stays.
                self.current.sampling.seed = self.prompt.seed
        if message.HasField("summary"):
            self.summary = replies.generate_summary(message.summary)
        self._apply(pending, message)
        if pending.done:
            self._pending.popleft()

    def _apply(self, pending: Pending, message: pb.InteractResponse) -> None:
        kind = pending.kind
        if kind == "fork" and message.branch_id not in self.branches:
            pending.branch = self._fork(pending.branch, message.branch_id)
        branch = pending.branch
        steps = [replies.step(step) for step in message.steps]
        pending.steps.extend(steps)
        branch.steps.extend(steps)
        if kind == "rewind" and not pending.done:
            count = pending.request.rewind.count
            del branch.steps[len(branch.steps) - count :]
        if message.HasField("distribution"):
            branch.distribution = replies.distribution(message.distribution)
        if kind == "switch":
            self.current = branch
        if kind == "drop":
            branch.dropped = True
            self.branches.pop(branch.branch_id, None)
        pending.done = _is_last(pending, message)

    def _fork(self, parent: BranchState, branch_id: int) -> BranchState:
        sampling = types.SamplingParams()
        sampling.CopyFrom(parent.sampling)
        child = BranchState(branch_id, sampling, list(parent.steps), parent.distribution)
        self.branches[branch_id] = child
        return child

    def __repr__(self) -> str:
        state = "" if self.summary else ", not finished"
        return f"{len(self.branches)} branches, {len(self.current.steps)} steps{state}"


def _is_last(pending: Pending, message: pb.InteractResponse) -> bool:
    """Tells whether an action is answered with this message."""
    match pending.kind:
        case "sample":
            return len(pending.steps) >= pending.request.sample.count
        case "force":
            # What is too large for one message comes in several.
            return message.HasField("distribution")
        case "stop":
            return message.HasField("summary")
        case _:
            return True


class BranchView:
    """What a branch tells of itself, whatever the session it belongs to."""

    def __init__(self, state: BranchState) -> None:
        self._state = state

    @property
    def branch_id(self) -> int:
        """Number of the branch; 0 is the one that a session begins with."""
        return self._state.branch_id

    @property
    def steps(self) -> tuple[Step, ...]:
        """The tokens behind the prompt, each with what it was chosen from."""
        return tuple(self._state.steps)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Ids of the tokens behind the prompt."""
        return tuple([step.id for step in self._state.steps])

    @property
    def text(self) -> str:
        """The text behind the prompt. Bytes that are not UTF-8 show as U+FFFD."""
        return b"".join([step.bytes for step in self._state.steps]).decode("utf-8", "replace")

    @property
    def distribution(self) -> Distribution:
        """What could come next.

        Raises:
            RuntimeError: Nothing has been answered yet.
        """
        if self._state.distribution is None:
            raise RuntimeError("nothing has been answered yet: start() the session first")
        return self._state.distribution

    @property
    def dropped(self) -> bool:
        """Whether it was given up."""
        return self._state.dropped

    def _html(self, prompt: PromptInfo | None) -> str:
        tokens = prompt.tokens if prompt else NO_TOKENS
        return notebook.branch(self.branch_id, tokens, self.steps)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BranchView):
            return self._state is other._state
        return NotImplemented

    def __hash__(self) -> int:
        return hash(id(self._state))

    def __repr__(self) -> str:
        state = ", dropped" if self.dropped else ""
        return f"<{type(self).__name__} {self.branch_id}: {self.text!r}{state}>"


def changed_sampling(
    branch: BranchState,
    *,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    min_p: float | None,
    repetition_penalty: float | None,
    presence_penalty: float | None,
    frequency_penalty: float | None,
    logit_bias: Mapping[int, float] | None,
    seed: int | None,
) -> types.SamplingParams | None:
    """Returns how tokens are drawn from now on, and notes it; None where nothing is said of it."""
    said = sampling_params(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        logit_bias=logit_bias,
        seed=seed,
    )
    if not said.ListFields() and logit_bias is None:
        return None
    changed = types.SamplingParams()
    changed.CopyFrom(branch.sampling)
    if logit_bias is not None:
        changed.ClearField("logit_bias")
    changed.MergeFrom(said)
    branch.sampling = changed
    return changed


def check_open(request: pb.InteractRequest, branch: BranchState) -> None:
    """Makes sure that a branch is there, for one that is not would end the whole session.

    Raises:
        ValueError: It was dropped.
    """
    if branch.dropped and request.WhichOneof("action") != "stop":
        raise ValueError(f"branch: {branch.branch_id} was dropped")


def check_rewind(branch: BranchState, count: int) -> None:
    """Makes sure that there are so many tokens, for too many would end the whole session.

    Raises:
        ValueError: There are not.
    """
    if not 0 <= count <= len(branch.steps):
        raise ValueError(f"count: is {count}, the range is 0 to {len(branch.steps)}")
