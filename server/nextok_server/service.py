"""The rpc methods.

Knows: the wire, the tokenizer, the runner. Does not know: tensors, how a step is computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence as Many
from typing import Any

import grpc
import structlog

from nextok.v1 import text_generation_pb2 as pb
from nextok_server import replies, requests
from nextok_server.action_stream import Requests as InteractRequests
from nextok_server.choices import Choices, start
from nextok_server.completion import Completion
from nextok_server.completions import Completions
from nextok_server.constraint_compiler import ConstraintCompiler
from nextok_server.constraint_requests import check_beginning, check_resume, read_constraint
from nextok_server.explore import ExploreService
from nextok_server.interact import InteractService, Patience
from nextok_server.interact_requests import Start
from nextok_server.interactions import Interaction
from nextok_server.matching import Grammar
from nextok_server.outgoing import window
from nextok_server.phases import tell_phases
from nextok_server.runner import Runner
from nextok_server.score import ScoreService
from nextok_server.sequence import Request, StopParams
from nextok_server.serving import Serving
from nextok_server.streams import Admission
from nextok_server.tally import Tally
from nextok_server.tokenizer import Tokenizer
from nextok_server.write_limit import WriteLimit

_log = structlog.get_logger(__name__)

# Longer texts are tokenized on a thread of their own, so that the event loop goes on.
_INLINE_BYTES = 2048

Context = grpc.aio.ServicerContext[Any, Any]


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
        tally: Tally,
        constraints: ConstraintCompiler,
        drafts: bool,
        stream_window: int,
        write_timeout: float,
        branch_idle_seconds: float,
        action_timeout: float,
    ) -> None:
        self._model_info = model_info
        self._eos = eos_token_ids
        self._limits = limits
        self._tokenizer = tokenizer
        self._runner = runner
        self._tally = tally
        self._constraints = constraints
        self._drafts = drafts
        self._window = stream_window
        self._replies = replies.Replies(tokenizer)
        self._serving = Serving(
            runner,
            limits,
            self._encode,
            self._prompt_info,
            self._replies,
            WriteLimit(write_timeout),
        )
        self._score = ScoreService(self._serving, stream_window)
        self._explore = ExploreService(self._serving)
        self._interact = InteractService(
            serving=self._serving,
            constrain=lambda form: constraints.compile(form, eos_token_ids),
            patience=Patience(branch_idle_seconds, action_timeout),
            begin=self._begin_interaction,
        )

    def check(self) -> None:
        """Refuses at once what would be refused whatever is asked for.

        Raises:
            ServerError: Nothing can be computed, or nobody may wait for it any more; see
                `Runner.admit`.
        """
        self._runner.check()

    async def GetModel(  # noqa: N802 - the contract's name
        self, _request: pb.GetModelRequest, _context: Context
    ) -> pb.GetModelResponse:
        """What is served."""
        return self._model_info

    async def Tokenize(  # noqa: N802
        self, request: pb.TokenizeRequest, _context: Context
    ) -> pb.TokenizeResponse:
        """Text to tokens."""
        text = requests.read_text(request.text, "text", self._limits)
        ids = await self._encode(text)
        return pb.TokenizeResponse(tokens=replies.text_tokens(self._tokenizer.locate(ids)))

    async def Detokenize(  # noqa: N802
        self, request: pb.DetokenizeRequest, _context: Context
    ) -> pb.DetokenizeResponse:
        """Tokens to text."""
        ids = requests.read_detokenize(request.token_ids, self._limits)
        text, data = self._tokenizer.decode(ids)
        tokens = replies.text_tokens(self._tokenizer.locate(ids))
        return pb.DetokenizeResponse(text=text, bytes=data, tokens=tokens)

    async def Generate(  # noqa: N802
        self, request: pb.GenerateRequest, context: Context
    ) -> None:
        """Continues a prompt, step by step."""
        own, stop, count = await self._read_generate(request)
        with self._serving.admitted(context, _sure_tokens(own, stop)) as admission:
            events = window(own.outputs, self._window, count)
            choices = start(self._runner, admission, own, count, window=events)
            await self._stream_completions(stop, choices, admission, context)

    async def Score(  # noqa: N802
        self, request: pb.ScoreRequest, context: Context
    ) -> None:
        """Tells how likely given tokens are."""
        await self._score.serve(request, context)

    async def Explore(  # noqa: N802
        self, request: pb.ExploreRequest, context: Context
    ) -> None:
        """Grows the tree of likely continuations."""
        await self._explore.serve(request, context)

    async def Interact(  # noqa: N802
        self, requests: InteractRequests, context: Context
    ) -> None:
        """Continues a prompt as the client says."""
        await self._interact.serve(requests, context)

    def _begin_interaction(self, start: Start) -> Interaction:
        prompt = self._prompt_info(start.prompt)
        prompt.seed = start.sampling.seed
        prompt.max_tokens = self._limits.context_length - len(start.prompt)
        return Interaction(
            start,
            prompt,
            runner=self._runner,
            tokenizer=self._tokenizer,
            replies=self._replies,
        )

    async def _encode(self, text: str) -> list[int]:
        if len(text) <= _INLINE_BYTES:
            return self._tokenizer.encode(text)
        return await asyncio.to_thread(self._tokenizer.encode, text)

    async def _read_generate(
        self, request: pb.GenerateRequest
    ) -> tuple[Request, tuple[str, ...], int]:
        """Validates a request.

        Returns:
            The engine's part of it for the first completion, the stop strings, and how many
            completions are wanted.
        """
        limits = self._limits
        count = requests.read_choices(request, limits)
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
        grammar = await self._read_constraint(request, stop, forced)
        own = Request(
            tuple(ids),
            sampling,
            stop,
            outputs,
            forced,
            request.priority,
            request.bypass_prefix_reuse,
            request.drafts if request.HasField("drafts") else self._drafts,
            grammar,
        )
        return own, stop_strings, count

    async def _read_constraint(
        self, request: pb.GenerateRequest, stop: StopParams, forced: tuple[int, ...]
    ) -> Grammar | None:
        """The form that a completion has to keep to, compiled, if there is one."""
        if not request.HasField("constraint"):
            return None
        form = read_constraint(request.constraint, "constraint", self._limits)
        grammar = await self._constraints.compile(form, stop.eos_token_ids)
        check_beginning(grammar, stop)
        check_resume(grammar, forced, stop)
        return grammar

    async def _stream_completions(
        self, stop: tuple[str, ...], choices: Choices, admission: Admission, context: Context
    ) -> None:
        request = choices.streams[0].sequence.request
        completions = [
            Completion(
                stream.sequence,
                stop,
                choice=number,
                artifact_sha256=self._model_info.artifact_sha256,
                tokenizer=self._tokenizer,
            )
            for number, stream in enumerate(choices.streams)
        ]
        prompt = self._prompt_info(request.prompt)
        prompt.seed = request.sampling.seed
        prompt.max_tokens = request.stop.max_tokens
        prompt.drafts = request.drafts
        outgoing = self._serving.outgoing(context, request.outputs)
        await outgoing.write(pb.GenerateResponse(prompt=prompt))
        group = Completions(choices, completions, self._replies)
        try:
            await outgoing.forward_all(admission, tuple(choices.all), group)
        finally:
            admission.spend(choices.shared)
            for stream in choices.all:
                tell_phases(stream.sequence)
        for completion in completions:
            self._tally.finished[completion.reason] += 1
        _log.info(
            "generated",
            prompt_tokens=len(request.prompt),
            completions=len(completions),
            completion_tokens=group.tokens,
        )

    def _prompt_info(self, ids: Many[int]) -> pb.PromptInfo:
        return pb.PromptInfo(
            tokens=replies.text_tokens(self._tokenizer.locate(ids)),
            artifact_sha256=self._model_info.artifact_sha256,
        )


def _sure_tokens(request: Request, stop: tuple[str, ...]) -> int:
    """How many tokens a request draws in any case, one at a time."""
    params = request.stop
    may_end = stop or params.stop_token_ids or params.eos_token_ids
    tokens = max(1, params.min_tokens) if may_end else params.max_tokens
    return 1 if request.drafts else max(0, tokens - len(request.forced))
