"""The rpc methods.

Knows: the wire, the tokenizer, the runner. Does not know: tensors, how a step is computed.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from nextok.v1 import text_generation_pb2 as pb
from nextok_server import errors, replies, requests, wire
from nextok_server.completion import Completion
from nextok_server.runner import Runner, Stream
from nextok_server.sequence import Event, Request
from nextok_server.tokenizer import Tokenizer

SERVICE = "nextok.v1.TextGenerationService"
_log = structlog.get_logger(__name__)

# Longer texts are tokenized on a thread of their own, so that the event loop goes on.
_INLINE_BYTES = 2048
# Events that one message holds at most: some 3 MB where each has a whole vocabulary.
_EVENTS_PER_MESSAGE = 256
_FULL_EVENTS_PER_MESSAGE = 16
# Steps with a whole vocabulary that may be unread, at 0.2 MB apiece.
_FULL_VOCABULARY_WINDOW = 8

Context = grpc.aio.ServicerContext[Any, Any]
_Handler = Callable[["Service", Any, Context], Awaitable[Any]]


def _rpc(method: _Handler) -> _Handler:
    """Turns errors into statuses; a fault of ours is logged and told without its internals."""

    @functools.wraps(method)
    async def run(self: Service, request: Message | wire.Malformed, context: Context) -> Any:
        request_id = wire.request_id(context)
        context.set_trailing_metadata(((wire.REQUEST_ID_KEY, request_id),))
        try:
            if isinstance(request, wire.Malformed):
                raise request.error
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                return await method(self, request, context)
        except errors.ServerError as error:
            _log.info(
                "refused", rpc=method.__name__, request_id=request_id, error=type(error).__name__
            )
            await wire.abort(context, error)
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception:  # noqa: BLE001 - the boundary: nothing of it may reach the client
            _log.exception("fault", rpc=method.__name__, request_id=request_id)
            fault = errors.EngineFailed(f"internal fault, in the server's log as {request_id}")
            await wire.abort(context, fault)

    return run


class Service:
    """TextGenerationService over one runner."""

    def __init__(
        self,
        *,
        model_info: pb.GetModelResponse,
        eos_token_ids: tuple[int, ...],
        limits: requests.Limits,
        tokenizer: Tokenizer,
        runner: Runner,
        drafts: bool,
        stream_window: int,
        write_timeout: float,
    ) -> None:
        self._model_info = model_info
        self._eos = eos_token_ids
        self._limits = limits
        self._tokenizer = tokenizer
        self._runner = runner
        self._drafts = drafts
        self._window = stream_window
        self._write_timeout = write_timeout
        self._replies = replies.Replies(tokenizer)

    @_rpc
    async def GetModel(  # noqa: N802 - the contract's name
        self, _request: pb.GetModelRequest, _context: Context
    ) -> pb.GetModelResponse:
        """What is served."""
        return self._model_info

    @_rpc
    async def Tokenize(  # noqa: N802
        self, request: pb.TokenizeRequest, _context: Context
    ) -> pb.TokenizeResponse:
        """Text to tokens."""
        text = requests.read_text(request.text, "text", self._limits)
        ids = await self._encode(text)
        return pb.TokenizeResponse(tokens=replies.text_tokens(self._tokenizer.locate(ids)))

    @_rpc
    async def Detokenize(  # noqa: N802
        self, request: pb.DetokenizeRequest, _context: Context
    ) -> pb.DetokenizeResponse:
        """Tokens to text."""
        ids = requests.read_detokenize(request.token_ids, self._limits)
        text, data = self._tokenizer.decode(ids)
        tokens = replies.text_tokens(self._tokenizer.locate(ids))
        return pb.DetokenizeResponse(text=text, bytes=data, tokens=tokens)

    @_rpc
    async def Generate(  # noqa: N802
        self, request: pb.GenerateRequest, context: Context
    ) -> None:
        """Continues a prompt, step by step."""
        own, stop = await self._read_generate(request)
        window = min(self._window, _FULL_VOCABULARY_WINDOW) if own.outputs.full else self._window
        stream = self._runner.submit(own, window=window)
        # Besides `finally` below: a handler that is torn down may not get to it in time.
        # (The stubs type the callback as a class rather than a protocol.)
        context.add_done_callback(lambda _: self._runner.cancel(stream))  # type: ignore[arg-type]
        try:
            await self._stream_completion(own, stop, stream, context)
        finally:
            self._runner.cancel(stream)

    @_rpc
    async def Score(  # noqa: N802
        self, _request: pb.ScoreRequest, _context: Context
    ) -> None:
        """Not offered yet."""
        raise errors.NotOffered("Score is not offered by this server")

    @_rpc
    async def Explore(  # noqa: N802
        self, _request: pb.ExploreRequest, _context: Context
    ) -> None:
        """Not offered yet."""
        raise errors.NotOffered("Explore is not offered by this server")

    @_rpc
    async def Interact(  # noqa: N802
        self, _request: Any, _context: Context
    ) -> None:
        """Not offered yet."""
        raise errors.NotOffered("Interact is not offered by this server")

    async def _encode(self, text: str) -> list[int]:
        if len(text) <= _INLINE_BYTES:
            return self._tokenizer.encode(text)
        return await asyncio.to_thread(self._tokenizer.encode, text)

    async def _read_generate(self, request: pb.GenerateRequest) -> tuple[Request, tuple[str, ...]]:
        """Validates a request; returns the engine's part of it and the stop strings."""
        limits = self._limits
        requests.refuse_what_is_not_offered(request)
        sampling = requests.read_sampling(request.sampling, limits)
        outputs = requests.read_outputs(
            request.logprobs, prompt=request.prompt_logprobs, limits=limits
        )
        stop_strings = requests.read_stop_strings(request.stop_conditions, limits)
        prompt = requests.read_prompt(request.prompt, "prompt", limits)
        field = "prompt.text" if isinstance(prompt, str) else "prompt.token_ids"
        ids = await self._encode(prompt) if isinstance(prompt, str) else prompt
        requests.check_prompt_length(len(ids), field, limits)
        stop = requests.read_stop_params(request.stop_conditions, len(ids), self._eos, limits)
        forced = requests.read_resume(request.resume_token_ids, stop.max_tokens, limits)
        own = Request(
            tuple(ids),
            sampling,
            stop,
            outputs,
            forced,
            request.priority,
            request.bypass_prefix_reuse,
            request.drafts if request.HasField("drafts") else self._drafts,
        )
        return own, stop_strings

    async def _stream_completion(
        self, request: Request, stop: tuple[str, ...], stream: Stream, context: Context
    ) -> None:
        completion = Completion(
            stream.sequence,
            stop,
            artifact_sha256=self._model_info.artifact_sha256,
            tokenizer=self._tokenizer,
            replies=self._replies,
        )
        first = pb.GenerateResponse(
            prompt=pb.PromptInfo(
                tokens=replies.text_tokens(self._tokenizer.locate(request.prompt)),
                seed=request.sampling.seed,
                max_tokens=request.stop.max_tokens,
                artifact_sha256=self._model_info.artifact_sha256,
                drafts=request.drafts,
            )
        )
        await self._write(context, first)
        most = _FULL_EVENTS_PER_MESSAGE if request.outputs.full else _EVENTS_PER_MESSAGE
        while not completion.finished:
            for events in _batched(await stream.read(), most):
                response = completion.reply(events)
                if response.ByteSize():
                    await self._write(context, response)
                self._runner.acknowledge(stream, len(events))
                if completion.finished:
                    break
        _log.info(
            "generated",
            prompt_tokens=len(request.prompt),
            completion_tokens=completion.tokens,
        )

    async def _write(self, context: Context, message: Message) -> None:
        try:
            async with asyncio.timeout(self._write_timeout):
                await context.write(message)
        except TimeoutError:
            raise errors.ReaderTooSlow(
                f"a message was not read within {self._write_timeout:g} s"
            ) from None


def _batched(events: list[Event], most: int) -> Iterator[list[Event]]:
    for start in range(0, len(events), most):
        yield events[start : start + most]


def method_handlers(service: Service) -> grpc.GenericRpcHandler:
    """The service's handlers, with deserializers that report malformed requests themselves."""
    descriptor = pb.DESCRIPTOR.services_by_name["TextGenerationService"]
    handlers = {}
    for method in descriptor.methods:
        request_class, response_class = (
            GetMessageClass(method.input_type),
            GetMessageClass(method.output_type),
        )
        if method.client_streaming:
            make = grpc.stream_stream_rpc_method_handler
        elif method.server_streaming:
            make = grpc.unary_stream_rpc_method_handler
        else:
            make = grpc.unary_unary_rpc_method_handler
        handlers[method.name] = make(
            getattr(service, method.name),
            request_deserializer=wire.parser(request_class),
            response_serializer=response_class.SerializeToString,
        )
    return grpc.method_handlers_generic_handler(SERVICE, handlers)
