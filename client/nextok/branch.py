"""One branch of an interactive generation, steered by plain code.

Knows the actions of a branch. How they are sent and answered is known by its session.
`async_branch` is this file's twin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nextok import actions
from nextok.interaction import (
    BranchState,
    BranchView,
    Pending,
    changed_sampling,
    check_rewind,
)
from nextok.v1 import text_generation_pb2 as pb
from nextok.values import Distribution, Step

if TYPE_CHECKING:
    # A session makes branches.
    from nextok.session import Session


class Branch(BranchView):
    """One branch of a session; what it does is done by the server, and awaited.

    Every action raises NextokError where the call failed, and ValueError where the branch was
    dropped or an argument does not fit.
    """

    def __init__(self, session: Session, state: BranchState) -> None:
        super().__init__(state)
        self._session = session

    def pick(self, token_id: int) -> Step:
        """Appends a token, whatever its probability.

        Args:
            token_id: Id in the vocabulary.
        """
        return self._do(actions.pick(self.branch_id, token_id)).steps[0]

    def sample(
        self,
        count: int = 1,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: Mapping[int, float] | None = None,
        seed: int | None = None,
    ) -> tuple[Step, ...]:
        """Appends tokens that the server draws.

        The options are those of `Client.interact`. Those that are given hold from now on for this
        branch; `None` keeps what was before.

        Args:
            count: How many, at least 1.
            temperature: See `Client.generate`, as for all that follow.
            top_k: See there.
            top_p: See there.
            min_p: See there.
            repetition_penalty: See there.
            presence_penalty: See there.
            frequency_penalty: See there.
            logit_bias: In place of the one before.
            seed: See there.
        """
        sampling = changed_sampling(
            self._state,
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
        return tuple(self._do(actions.sample(self.branch_id, count, sampling)).steps)

    def force(self, tokens: str | Sequence[int]) -> tuple[Step, ...]:
        """Appends given tokens.

        Args:
            tokens: A text, which is tokenized by itself, or token ids.
        """
        return tuple(self._do(actions.force(self.branch_id, tokens)).steps)

    def rewind(self, count: int = 1) -> Distribution:
        """Takes tokens off the end, and returns what could come next.

        Args:
            count: How many, at most those behind the prompt.
        """
        check_rewind(self._state, count)
        self._do(actions.rewind(self.branch_id, count))
        return self.distribution

    def fork(self) -> Branch:
        """Returns a new branch that starts as a copy of this one."""
        pending = self._do(actions.fork(self.branch_id))
        return Branch(self._session, pending.branch)

    def drop(self) -> None:
        """Gives the branch up."""
        self._do(actions.drop(self.branch_id))

    def _do(self, request: pb.InteractRequest) -> Pending:
        return self._session._do([(request, self._state)])[0]

    def _repr_html_(self) -> str:
        return self._html(self._session._interaction.prompt)
