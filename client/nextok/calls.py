"""The calls whose options are many, spelled once for both clients.

Knows the options of Generate and how they become a request. Does not know how a call is made,
nor whether its result has to be awaited.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from nextok.attempts import DEFAULT_RESUME
from nextok.recording import Recording
from nextok.requests import (
    constraint,
    generate_request,
    logprob_options,
    sampling_params,
    stop_conditions,
)
from nextok.v1 import text_generation_pb2 as pb

G = TypeVar("G")  # the generation that the client returns, sync or asyncio
D = TypeVar("D")  # the distribution, or something to await for it
R = TypeVar("R")  # the result of a replay, or something to await for it


class GenerateCalls(ABC, Generic[G, D, R]):
    """Gives a client its `generate`, `next_token` and `replay`."""

    @abstractmethod
    def _start_generation(
        self, request: pb.GenerateRequest, *, resume: int, timeout: float | None
    ) -> G:
        """Starts the call."""

    @abstractmethod
    def _read_distribution(self, generation: G) -> D:
        """Reads what the first step was chosen from, and ends the call."""

    @abstractmethod
    def _read_replay(self, generation: G, recording: Recording) -> R:
        """Reads a generation to its end, and compares it with a recording."""

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        n: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: Mapping[int, float] | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        min_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        stop_token_ids: Sequence[int] = (),
        ignore_eos: bool = False,
        top_logprobs: int | None = None,
        logprob_token_ids: Sequence[int] = (),
        full_vocabulary: bool = False,
        prompt_logprobs: bool = False,
        bypass_prefix_reuse: bool = False,
        drafts: bool | None = None,
        json_schema: str | bool | Mapping[str, Any] | None = None,
        regex: str | None = None,
        grammar: str | None = None,
        choices: Sequence[str] | None = None,
        resume_token_ids: Sequence[int] = (),
        resume: int = DEFAULT_RESUME,
        timeout: float | None = None,
    ) -> G:
        """Continues a prompt; every step comes as it is computed.

        `None` leaves an option to the server, whose default is named. Ranges are the server's
        to check. Errors are raised while the result is read.

        Args:
            prompt: Text, or token ids that are taken as they are.
            n: How many completions; the prompt is computed once. Each step names its `choice`;
                choice i is what a request for one completion with the seed plus i gives.
                Default 1.
            temperature: 0 takes the most likely token. Default 1.
            top_k: Keeps the k most likely tokens; 0 keeps all. Default 0.
            top_p: Keeps the fewest tokens whose probabilities reach this sum. Default 1.
            min_p: Keeps tokens with this fraction of the likeliest's probability. Default 0.
            repetition_penalty: Divides the logits of tokens already used. Default 1.
            presence_penalty: Taken off the logit of each token generated before. Default 0.
            frequency_penalty: Taken off once for each time that it was. Default 0.
            logit_bias: Added to the logits of single tokens, by id.
            seed: Of the draws. Default: the server picks one, and tells it in the prompt.
            max_tokens: Most tokens to generate. Default: what the context has room for.
            min_tokens: Nothing ends the completion before this many. Default 0.
            stop: Texts that end the completion and are left out of it; one or several.
            stop_token_ids: Tokens that end the completion.
            ignore_eos: Goes on past the model's own end-of-text token.
            top_logprobs: How many of the most likely tokens each step lists. Default 0.
            logprob_token_ids: Tokens that each step reports, whatever their rank.
            full_vocabulary: Whether each step has the log probability of every token. Steps
                are kept while the generation is: 4 bytes a token of the vocabulary each.
            prompt_logprobs: Whether the prompt's own log probabilities are sent.
            bypass_prefix_reuse: Computes the whole prompt, whatever the server has kept of it.
            drafts: Whether the server may draft tokens from the request's own text and check
                several at a time. Default: as it is set, which the prompt tells.
            json_schema: A JSON schema, as text or as what `json.dumps` makes text of. The
                completion is JSON that it describes. Of this and the next three options at most
                one can be given; see the server's docs/constraints.md.
            regex: A regular expression that the whole completion matches.
            grammar: A grammar that it follows, in llguidance's Lark dialect.
            choices: Texts of which it is one.
            resume_token_ids: Tokens of a broken stream: computed again, not sent again.
            resume: Where the connection or the server is lost (UNAVAILABLE), the request is
                sent again with what was received, and the steps go on behind it with the same
                bits; those of several completions one completion after the other. This many
                attempts in a row may bring nothing new, with growing pauses between them, before
                the error is raised. 0 turns it off.
            timeout: Seconds that the whole call may take, all attempts and pauses together.
                Default: no limit.

        Returns:
            The generation, an iterator of steps.

        Raises:
            TypeError: An argument is of a type that no request can hold.
            ValueError: An argument does not fit a request: an id that is no uint32, a text
                with a lone surrogate, two constraints. Or `resume` is negative.
        """
        request = generate_request(
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
            stop_conditions=stop_conditions(
                max_tokens=max_tokens,
                min_tokens=min_tokens,
                stop=stop,
                stop_token_ids=stop_token_ids,
                ignore_eos=ignore_eos,
            ),
            logprobs=logprob_options(
                top_logprobs=top_logprobs,
                logprob_token_ids=logprob_token_ids,
                full_vocabulary=full_vocabulary,
            ),
            n=n,
            prompt_logprobs=prompt_logprobs,
            bypass_prefix_reuse=bypass_prefix_reuse,
            drafts=drafts,
            constraint=constraint(
                json_schema=json_schema, regex=regex, grammar=grammar, choices=choices
            ),
            resume_token_ids=resume_token_ids,
        )
        return self._start_generation(request, resume=resume, timeout=timeout)

    def next_token(
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
        top_logprobs: int = 10,
        logprob_token_ids: Sequence[int] = (),
        full_vocabulary: bool = False,
        json_schema: str | bool | Mapping[str, Any] | None = None,
        regex: str | None = None,
        grammar: str | None = None,
        choices: Sequence[str] | None = None,
        resume: int = DEFAULT_RESUME,
        timeout: float | None = None,
    ) -> D:
        """Tells what could come after a prompt. Nothing is drawn for the caller.

        The options are those of `generate`. The sampler's and the constraints are there to see
        what they do: they change each candidate's `prob` and `kept`, never its `logprob`.

        Raises:
            NextokError: The call failed.
            TypeError: An argument is of a type that no request can hold.
            ValueError: An argument does not fit a request.
        """
        generation = self.generate(
            prompt,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty,
            logit_bias=logit_bias,
            max_tokens=1,
            top_logprobs=top_logprobs,
            logprob_token_ids=logprob_token_ids,
            full_vocabulary=full_vocabulary,
            json_schema=json_schema,
            regex=regex,
            grammar=grammar,
            choices=choices,
            resume=resume,
            timeout=timeout,
        )
        return self._read_distribution(generation)

    def replay(
        self,
        recording: Recording,
        *,
        resume: int = DEFAULT_RESUME,
        timeout: float | None = None,
    ) -> R:
        """Runs a recording again, and tells where the result differs first.

        Args:
            recording: From `recording` of a generation, or from `Recording.loads`.
            resume: As in `generate`.
            timeout: Seconds that the whole call may take. Default: no limit.

        Returns:
            The result. Where the server has another artifact, it says so, and the run is given up.

        Raises:
            NextokError: The call failed.
        """
        generation = self._start_generation(recording.request, resume=resume, timeout=timeout)
        return self._read_replay(generation, recording)
