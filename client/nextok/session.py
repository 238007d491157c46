"""An interactive generation, steered by plain code.

Knows the sync call of grpc: what is sent to it, reading it, ending it. What was answered is kept
by `Interaction`. `async_session` is this file's twin.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import grpc

from nextok import actions
from nextok.branch import Branch
from nextok.errors import Internal, NextokError, error_from_rpc
from nextok.interaction import (
    BranchState,
    Interaction,
    Pending,
    check_open,
)
from nextok.v1 import text_generation_pb2 as pb
from nextok.values import GenerateSummary, PromptInfo, Step


class Session:
    """An interactive generation: its branches, and what is common to them.

    To be used in a `with`: that waits for the first answer, and leaving it ends the call, as do
    `stop`, `cancel`, and that nobody refers to it any more. Threads may share it.
    """

    def __init__(
        self,
        call: Any,
        requests: SimpleQueue[pb.InteractRequest | None],
        request: pb.InteractRequest,
    ) -> None:
        self._call = call
        self._requests = requests
        self._interaction = Interaction(request)
        self._first = self._interaction.current
        # Actions are noted in the order in which they are sent.
        self._sending = threading.Lock()
        self._reading = threading.Lock()
        self._failure: NextokError | None = None
        self._begin = self._send([(request, self._first)])

    @classmethod
    def _open(
        cls, method: Callable[..., Any], request: pb.InteractRequest, timeout: float | None
    ) -> Self:
        """Makes the call."""
        # grpc takes from it what to send, in a thread of its own, until there is a None.
        requests: SimpleQueue[pb.InteractRequest | None] = SimpleQueue()
        call = method(iter(requests.get, None), timeout=timeout)
        # However the call ends, that thread does. It does not keep the session alive.
        if not call.add_callback(lambda: requests.put(None)):
            requests.put(None)
        return cls(call, requests, request)

    @property
    def prompt(self) -> PromptInfo:
        """What the prompt was read as. Waits for the first answer; see `start`."""
        return self.start()

    @property
    def branch(self) -> Branch:
        """The branch that was switched to last; at first the only one."""
        return Branch(self, self._interaction.current)

    @property
    def branches(self) -> tuple[Branch, ...]:
        """All branches that were not dropped, by number."""
        return tuple([Branch(self, state) for state in self._interaction.branches.values()])

    @property
    def summary(self) -> GenerateSummary | None:
        """The whole call, counted; None before `stop`."""
        return self._interaction.summary

    def start(self) -> PromptInfo:
        """Waits for the first answer, if it has not come yet, and returns the prompt.

        Raises:
            NextokError: The call failed.
        """
        self._wait(self._begin)
        prompt = self._interaction.prompt
        if prompt is None:
            raise Internal(grpc.StatusCode.INTERNAL, "the first answer has no prompt")
        return prompt

    def switch(self, branch: Branch) -> None:
        """Makes a branch the current one.

        Raises:
            NextokError: The call failed.
            ValueError: The branch was dropped.
        """
        self._do([(actions.switch(branch.branch_id), branch._state)])

    def sample_all(
        self, count: int = 1, *, branches: Iterable[Branch] | None = None
    ) -> tuple[tuple[Step, ...], ...]:
        """Draws tokens on several branches at the same time: they are computed together.

        Args:
            count: How many on each.
            branches: On which. Default: on all.

        Returns:
            The steps of each branch, in the order of `branches`.

        Raises:
            NextokError: The call failed.
            ValueError: A branch was dropped, or `count` is less than 1.
        """
        chosen = self.branches if branches is None else tuple(branches)
        sent = [(actions.sample(b.branch_id, count, None), b._state) for b in chosen]
        return tuple([tuple(pending.steps) for pending in self._do(sent)])

    def force_all(
        self, tokens: Mapping[Branch, str | Sequence[int]]
    ) -> tuple[tuple[Step, ...], ...]:
        """Appends given tokens to several branches at the same time: they are computed together.

        Args:
            tokens: What each branch gets, as in `Branch.force`.

        Returns:
            The steps of each branch, in the order of `tokens`.

        Raises:
            NextokError: The call failed.
            ValueError: A branch was dropped, or what it gets does not fit.
        """
        sent = [(actions.force(b.branch_id, given), b._state) for b, given in tokens.items()]
        return tuple([tuple(pending.steps) for pending in self._do(sent)])

    def stop(self) -> GenerateSummary:
        """Ends the call, and returns it counted.

        Raises:
            NextokError: The call failed.
        """
        if self._interaction.summary is None:
            self._do([(actions.stop(), self._interaction.current)])
            self._requests.put(None)
        assert self._interaction.summary is not None
        return self._interaction.summary

    def cancel(self) -> None:
        """Cancels the call, from any thread. Whoever still waits for it gets `Cancelled`."""
        self._call.cancel()

    def _do(self, sent: Sequence[tuple[pb.InteractRequest, BranchState]]) -> list[Pending]:
        """Sends actions, all before the first answer is waited for, and waits for theirs."""
        for request, branch in sent:
            check_open(request, branch)
        self._wait(self._begin)
        pending = self._send(sent)
        self._wait(pending)
        return pending

    def _send(self, sent: Sequence[tuple[pb.InteractRequest, BranchState]]) -> list[Pending]:
        with self._sending:
            pending = [self._interaction.expect(request, branch) for request, branch in sent]
            for request, _ in sent:
                self._requests.put(request)
        return pending

    def _wait(self, pending: Sequence[Pending]) -> None:
        for one in pending:
            while not one.done:
                # Whoever has the lock reads for all.
                with self._reading:
                    if not one.done:
                        self._receive()

    def _receive(self) -> None:
        if self._failure is not None:
            raise self._failure
        try:
            self._interaction.add(next(self._call))
        except StopIteration:
            raise RuntimeError("the session has ended") from None
        except grpc.RpcError as error:
            self._failure = error_from_rpc(error)
            raise self._failure from error
        except NextokError as error:
            self._failure = error
            self._call.cancel()
            raise

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.cancel()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        self._call.cancel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._interaction!r}>"

    def _repr_html_(self) -> str:
        return "".join([branch._repr_html_() for branch in self.branches])
