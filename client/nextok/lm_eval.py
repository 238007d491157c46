"""nextok as a model of EleutherAI's lm-evaluation-harness (extra `lm-eval`).

    nextok-lm-eval run --model nextok --model_args target=localhost:50051 --tasks lambada_openai

is the harness's own command line, to which the model `nextok` is known; so does importing this
module in a program that calls `lm_eval.simple_evaluate`. The harness has no way to find the models
of other packages by itself.

Knows the harness's interface, and the client. The conventions are those of the harness's `hf`
model: what is scored, what is cut off on the left, what stands before an empty context.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

from nextok.client import Client
from nextok.security import TLS

_Request = tuple[tuple[str, str], list[int], list[int]]
_A = TypeVar("_A")
_R = TypeVar("_R")

# What a request may say of sampling, under the names of `Client.generate`.
_SAMPLING = frozenset(("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed"))
_KEPT_TOKENIZATIONS = 4096


@register_model("nextok")
class NextokLM(TemplateLM):  # type: ignore[misc] # the harness has no types
    """Asks a nextok server.

    Args:
        target: HOST:PORT.
        tls: Whether to connect with TLS; so does giving one of the files.
        ca: File with the authorities to trust, PEM. None: public ones.
        certificate: File with the client's own certificate, PEM.
        key: File with its key.
        token_file: File with the token to show. None: that of NEXTOK_TOKEN, if set; the harness
            writes down what it is given, so the token itself is not among it.
        parallel: Requests that are sent at the same time.
        max_gen_toks: Most tokens of an answer, where a task does not say.
        prefix_token_id: What stands before a text that has no context. None: the model's own
            end-of-text token.
        timeout: Seconds that one request may take; None: no limit.
        batch_size: The harness gives it to every model; the server makes its own batches.
        max_batch_size: Likewise.
        device: Likewise; the server's processor computes.

    Raises:
        ValueError: `parallel` is under 1, or the model has no end-of-text token and no
            `prefix_token_id` is given.
    """

    def __init__(
        self,
        target: str = "localhost:50051",
        *,
        tls: bool = False,
        ca: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
        token_file: str | None = None,
        parallel: int = 8,
        max_gen_toks: int = 256,
        prefix_token_id: int | None = None,
        timeout: float | None = None,
        batch_size: int | str | None = None,  # noqa: ARG002
        max_batch_size: int | None = None,  # noqa: ARG002
        device: str | None = None,  # noqa: ARG002
    ) -> None:
        super().__init__()
        if parallel < 1:
            raise ValueError(f"parallel: is {parallel}, the least is 1")
        self._client = Client(target, tls=_tls(tls, ca, certificate, key), token=_token(token_file))
        self._model = self._client.get_model()
        self._parallel = parallel
        self._timeout = timeout
        self._max_gen_toks = max_gen_toks
        if prefix_token_id is None and not self._model.eos_token_ids:
            raise ValueError("prefix_token_id: has to be given, the model ends no text by itself")
        self._prefix = self._model.eos_token_ids[0] if prefix_token_id is None else prefix_token_id
        self._encode = lru_cache(_KEPT_TOKENIZATIONS)(self._tokenize)

    @property
    def eot_token_id(self) -> int:
        """What stands before a text that has no context."""
        return self._prefix

    @property
    def max_length(self) -> int:
        """The model's context, in tokens."""
        return self._model.context_length

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer for the harness's caches."""
        return f"nextok-{self._model.artifact_sha256}"

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,  # noqa: ARG002 - there are none to add
        **_: Any,
    ) -> list[int]:
        """Token ids of a text, by the server's tokenizer."""
        return list(self._encode(string))

    def _tokenize(self, text: str) -> tuple[int, ...]:
        return self._client.tokenize(text, timeout=self._timeout).ids

    def _loglikelihood_tokens(
        self, requests: Sequence[_Request], **_: Any
    ) -> list[tuple[float, bool]]:
        """Scores continuations; those of one context in one call, which computes it once."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, (_text, context, continuation) in enumerate(requests):
            if not continuation:
                raise ValueError(f"request {number} has no token to score")
            groups.setdefault(tuple(context), []).append(number)
        most = self._model.limits.max_continuations
        calls = [
            (context, numbers[start : start + most])
            for context, numbers in groups.items()
            for start in range(0, len(numbers), most)
        ]
        scores: dict[int, tuple[float, bool]] = {}

        def score(call: tuple[tuple[int, ...], list[int]]) -> None:
            context, numbers = call
            running = self._client.score(
                context,
                continuations=[requests[number][2] for number in numbers],
                stride=self.max_length,
                timeout=self._timeout,
            )
            for number, total in zip(numbers, running.read_totals(), strict=True):
                scores[number] = (total.logprob, total.is_greedy)
                text = requests[number][0]
                self.cache_hook.add_partial("loglikelihood", text, scores[number])

        self._each(score, calls)
        return [scores[number] for number in range(len(requests))]

    def loglikelihood_rolling(
        self,
        requests: Sequence[Any],
        disable_tqdm: bool = False,  # noqa: ARG002 - no bar is shown
    ) -> list[float]:
        """Log probability of whole texts, each token once, in windows as long as the context."""

        def score(request: Any) -> float:
            (text,) = request.args
            ids = self.tok_encode(text)
            running = self._client.score(
                [self._prefix, *ids], stride=self.max_length, timeout=self._timeout
            )
            (total,) = running.read_totals()
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total.logprob)
            return total.logprob

        return self._each(score, requests)

    def generate_until(
        self,
        requests: Sequence[Any],
        disable_tqdm: bool = False,  # noqa: ARG002 - no bar is shown
    ) -> list[str]:
        """Continues texts until a stop string, the model's own end or the most tokens."""

        def generate(request: Any) -> str:
            context, options = request.args
            text = self._generate(context, options)
            self.cache_hook.add_partial("generate_until", request.args, text)
            return text

        return self._each(generate, requests)

    def _generate(self, context: str, options: dict[str, Any]) -> str:
        wanted: dict[str, Any] = dict(normalize_gen_kwargs(options, self._max_gen_toks))
        max_tokens = wanted.pop("max_gen_toks")
        room = self.max_length - max_tokens
        if room < 1:
            raise ValueError(
                f"max_gen_toks: is {max_tokens}, the range is 1 to {self.max_length - 1}"
            )
        stop = [text for text in handle_stop_sequences(wanted.pop("until"), eos=None) if text]
        sampled = wanted.pop("do_sample")
        sampling = {name: wanted.pop(name) for name in _SAMPLING & wanted.keys()}
        if wanted:
            raise ValueError(f"generation options that nextok does not have: {sorted(wanted)}")
        if not sampled:
            sampling["temperature"] = 0.0
        prompt = self.tok_encode(context)[-room:] or [self._prefix]
        with self._client.generate(
            prompt, stop=stop, max_tokens=max_tokens, timeout=self._timeout, **sampling
        ) as running:
            for _ in running:
                pass
            return running.text

    def _each(self, call: Callable[[_A], _R], items: Iterable[_A]) -> list[_R]:
        """Makes calls, some at the same time; results are in the order of the items."""
        with ThreadPoolExecutor(self._parallel) as pool:
            return list(pool.map(call, items))


def _tls(wanted: bool, ca: str | None, certificate: str | None, key: str | None) -> TLS | bool:
    if ca is None and certificate is None and key is None:
        return wanted
    return TLS.from_files(ca=ca, certificate=certificate, key=key)


def _token(file: str | None) -> str | None:
    if file is None:
        return os.environ.get("NEXTOK_TOKEN") or None
    return Path(file).read_text(encoding="ascii").strip()


def main() -> None:
    """Runs the harness's command line, which knows the model `nextok` now."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
