"""The call that a caller steers, its options spelled once for both clients.

Knows the options of Interact and how they become a request. Does not know how a call is made, nor
whether its answers have to be awaited.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from nextok import actions
from nextok.requests import constraint, logprob_options, sampling_params
from nextok.v1 import text_generation_pb2 as pb

S = TypeVar("S")  # the session that the client returns, sync or asyncio


class InteractCalls(ABC, Generic[S]):
    """Gives a client its `interact`."""

    @abstractmethod
    def _start_session(self, request: pb.InteractRequest, *, timeout: float | None) -> S:
        """Starts the call."""

    def interact(
        self,
        prompt: str | Sequence[int],
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
        top_logprobs: int | None = 10,
        logprob_token_ids: Sequence[int] = (),
        full_vocabulary: bool = False,
        json_schema: str | bool | Mapping[str, Any] | None = None,
        regex: str | None = None,
        grammar: str | None = None,
        choices: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> S:
        """Continues a prompt as the caller says, token by token, on as many branches as needed.

            with client.interact("Once upon a") as session:
                branch = session.branch
                print(branch.distribution.top_logprobs)
                branch.sample()                 # drawn by the server
                branch.force(" dragon")         # given
                other = branch.fork()           # a copy, to go on with in another way
                branch.rewind(2)

        `None` leaves an option to the server, whose default is named in `generate`. Ranges are
        the server's to check; a session that was refused something has ended. A session does not
        go on by itself where the connection is lost: its branches' tokens say how to begin anew.

        Args:
            prompt: Text, or token ids that are taken as they are.
            temperature: As in `generate`, like all that change how tokens are drawn.
            top_k: See there.
            top_p: See there.
            min_p: See there.
            repetition_penalty: See there.
            presence_penalty: See there.
            frequency_penalty: See there.
            logit_bias: See there.
            seed: Of the draws. Default: the server picks one, and tells it in the prompt.
            top_logprobs: How many of the most likely tokens each distribution lists.
            logprob_token_ids: Tokens that each distribution reports, whatever their rank.
            full_vocabulary: Whether each distribution has the log probability of every token.
            json_schema: As in `generate`, like the next three: every branch keeps to the form, and
                a given token that it does not allow is refused, which ends the session.
            regex: See there.
            grammar: See there.
            choices: See there.
            timeout: Seconds that the whole session may take. Default: no limit.

        Returns:
            The session, to be used in a `with`: leaving it ends the call.

        Raises:
            TypeError: An argument is of a type that no request can hold.
            ValueError: An argument does not fit a request: an id that is no uint32, a text
                with a lone surrogate, two constraints.
        """
        request = actions.start(
            prompt,
            sampling=sampling_params(
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                min_p=min_p,
                repetition_penalty=repetition_penalty,
                presence_penalty=presence_penalty,
                frequency_penalty=frequency_penalty,
                logit_bias=logit_bias,
                seed=seed,
            ),
            logprobs=logprob_options(
                top_logprobs=top_logprobs,
                logprob_token_ids=logprob_token_ids,
                full_vocabulary=full_vocabulary,
            ),
            constraint=constraint(
                json_schema=json_schema, regex=regex, grammar=grammar, choices=choices
            ),
        )
        return self._start_session(request, timeout=timeout)
