"""The client for plain, blocking code.

Knows the sync stack of grpc. How requests are built and answers are read is shared with its
twin, `async_client`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import grpc

from nextok import health, model_replies, replies, requests
from nextok.attempts import Attempts, RetryBudget
from nextok.calls import GenerateCalls
from nextok.channel import ChannelOptions, channel_options
from nextok.contrast import Contrast
from nextok.contrast_calls import ContrastCalls
from nextok.errors import error_from_rpc
from nextok.exploration import Exploration
from nextok.explore_calls import ExploreCalls
from nextok.generation import Generation
from nextok.health import ServingStatus
from nextok.interact_calls import InteractCalls
from nextok.lockstep import Lockstep
from nextok.model import Model
from nextok.recording import Recording
from nextok.renewal import open_channel
from nextok.replay import Replay
from nextok.running import Running
from nextok.score_calls import ScoreCalls
from nextok.scoring import Scoring
from nextok.security import TLS, Connection, plan_connection
from nextok.session import Session
from nextok.tokens import Detokenized, TextTokens
from nextok.v1 import text_generation_pb2 as pb
from nextok.v1.text_generation_pb2_grpc import TextGenerationServiceStub
from nextok.values import Distribution

T = TypeVar("T")


class Client(
    GenerateCalls[Generation, Distribution, Replay],
    ScoreCalls[Scoring],
    ExploreCalls[Exploration],
    InteractCalls[Session],
    ContrastCalls[Contrast],
):
    """A connection to a nextok server. Threads may share it.

    Args:
        target: HOST:PORT, or any other name that gRPC resolves; several servers of one
            artifact as ipv4:HOST:PORT,HOST:PORT.
        tls: How to make sure of the server: True trusts public authorities. False connects in
            the clear.
        token: Sent with every call; the server knows by it who calls.
        token_in_clear: Whether the token may be sent in the clear to other machines.
        credentials: gRPC's own, in place of `tls`.
        options: More gRPC channel arguments; they win over those that nextok sets.

    Raises:
        ValueError: The token would be sent to another machine in the clear, or is none; or both
            `tls` and `credentials` are given.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: TLS | bool = False,
        token: str | None = None,
        token_in_clear: bool = False,
        credentials: grpc.ChannelCredentials | None = None,
        options: ChannelOptions = (),
    ) -> None:
        def plan(tls: TLS | bool) -> Connection:
            return plan_connection(
                target,
                tls=tls,
                token=token,
                token_in_clear=token_in_clear,
                credentials=credentials,
            )

        def open_(tls: TLS | bool) -> grpc.Channel:
            connection = plan(tls)
            settings = channel_options((*connection.options, *options))
            if connection.credentials is None:
                return grpc.insecure_channel(target, options=settings)
            return grpc.secure_channel(target, connection.credentials, options=settings)

        self._channel = open_channel(tls, open_)
        authorized = plan(tls).authorize(self._channel)
        self._running = Running()
        self._budget = RetryBudget()
        # Generated code has no types.
        self._stub: Any = TextGenerationServiceStub(authorized)  # type: ignore[no-untyped-call]
        self._check: Any = authorized.unary_unary(
            health.CHECK,
            request_serializer=health.serialize_request,
            response_deserializer=health.parse_response,
        )

    def get_model(self, *, timeout: float | None = None) -> Model:
        """Tells what is served: sizes, precision, limits, hashes, the certificate.

        Args:
            timeout: Seconds that the call may take. None: no limit.

        Raises:
            NextokError: The call failed.
        """
        return model_replies.model(_call(self._stub.GetModel, pb.GetModelRequest(), timeout))

    def tokenize(self, text: str, *, timeout: float | None = None) -> TextTokens:
        """Turns text into tokens.

        Args:
            text: At most Limits.max_prompt_bytes in UTF-8.
            timeout: Seconds that the call may take. None: no limit.

        Raises:
            NextokError: The call failed.
            ValueError: The text has a lone surrogate.
        """
        request = requests.tokenize_request(text)
        return replies.tokenized(_call(self._stub.Tokenize, request, timeout))

    def detokenize(self, token_ids: Sequence[int], *, timeout: float | None = None) -> Detokenized:
        """Turns tokens into text.

        Args:
            token_ids: Ids in the vocabulary.
            timeout: Seconds that the call may take. None: no limit.

        Raises:
            NextokError: The call failed.
            ValueError: An id is not in 0 to 2**32 - 1.
        """
        request = requests.detokenize_request(token_ids)
        return replies.detokenized(_call(self._stub.Detokenize, request, timeout))

    def health(self, service: str = "", *, timeout: float | None = None) -> ServingStatus:
        """Tells whether the server, or one of its services, is ready.

        Args:
            service: A service's full name; "" asks for the whole server.
            timeout: Seconds that the call may take. None: no limit.

        Raises:
            NotFound: The server has no such service.
            NextokError: The call failed in another way.
        """
        status: ServingStatus = _call(self._check, service, timeout)
        return status

    def close(self) -> None:
        """Closes the connection; calls that are still running are cancelled."""
        # Those that wait before another attempt have no call that the channel could cancel.
        self._running.cancel()
        self._channel.close()

    def _start_generation(
        self, request: pb.GenerateRequest, *, resume: int, timeout: float | None
    ) -> Generation:
        attempts = Attempts(
            self._stub.Generate, request, resume=resume, timeout=timeout, budget=self._budget
        )
        return self._running.add(Generation(attempts.first(), attempts))

    def _read_distribution(self, generation: Generation) -> Distribution:
        with generation:
            return generation._distribution()

    def _read_replay(self, generation: Generation, recording: Recording) -> Replay:
        with generation:
            return generation._replay(recording)

    def _start_scoring(self, request: pb.ScoreRequest, *, timeout: float | None) -> Scoring:
        return self._running.add(Scoring(self._stub.Score(request, timeout=timeout)))

    def _start_exploration(
        self, request: pb.ExploreRequest, *, timeout: float | None
    ) -> Exploration:
        return self._running.add(Exploration(self._stub.Explore(request, timeout=timeout)))

    def _start_session(self, request: pb.InteractRequest, *, timeout: float | None) -> Session:
        return self._running.add(Session._open(self._stub.Interact, request, timeout))

    def _start_contrast(self, lockstep: Lockstep, *, timeout: float | None) -> Contrast:
        contrast = Contrast(
            lockstep,
            partial(self._start_session, timeout=timeout),
            partial(self.tokenize, timeout=timeout),
        )
        return self._running.add(contrast)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _call(method: Callable[..., T], request: object, timeout: float | None) -> T:
    try:
        return method(request, timeout=timeout)
    except grpc.RpcError as error:
        raise error_from_rpc(error) from error
