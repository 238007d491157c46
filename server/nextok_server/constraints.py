"""Grammars, compiled and matched: the only place that imports llguidance.

Knows: llguidance's API (https://github.com/guidance-ai/llguidance, docs/syntax.md and
docs/json_schema.md), its limits, how the vocabulary is told to it. Does not know: the engine, the
wire, where forms come from. The library is an extra, so this module is imported where one is
compiled.

llguidance is told of an end token of its own, past the vocabulary: the model's end tokens are
then put into a mask exactly where the form may end, however many the model has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Many
from functools import lru_cache

import llguidance
import numpy as np
from numpy.typing import NDArray

from nextok_server.errors import InvalidRequest
from nextok_server.masks import Mask
from nextok_server.matching import Form
from nextok_server.tokenizer import Tokenizer

_WORD_BITS = 32
# How it says that no text matches.
_NO_TEXT = "NoExtensionBias"
# An eighth of llguidance's own: a state takes up to 2 kB, so these some 60 MB.
_MAX_LEXER_STATES = 31_250
# Forms come to the same few masks again and again, and a string to one at most of its places.
# Each takes some 250 kB.
_MASKS_KEPT = 64
# Where a form leaves no choice, llguidance asks for the tokens of the text that has to come: names
# of properties and the like, which come again too.
_TEXTS_KEPT = 1024
_LONGEST_TEXT_KEPT = 256

# Makes a mask of llguidance's bits, of whether the form may end there, and of the end tokens.
_Unpack = Callable[[bytes, bool, tuple[int, ...]], Mask]


class _Wrapped:
    """What llguidance asks of a tokenizer, by the names that it asks for."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self.eos_token_id = size
        self.tokens = [tokenizer.token_bytes(token_id) for token_id in range(size)] + [b"<end>"]
        special = [token_id for token_id in tokenizer.special_token_ids if token_id < size]
        self.special_token_ids = [*special, size]
        self._tokenizer = tokenizer
        self._recall = lru_cache(_TEXTS_KEPT)(self._encode)

    def __call__(self, text: bytes | str) -> list[int]:
        return (self._recall if len(text) <= _LONGEST_TEXT_KEPT else self._encode)(text)

    def _encode(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text if isinstance(text, str) else text.decode())


class Vocabulary:
    """The tokens, as llguidance needs them; takes a tenth of a second to make.

    Args:
        tokenizer: Has each token's bytes.
        size: How many the model has.
    """

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self.size = size
        wrapped = llguidance.TokenizerWrapper(_Wrapped(tokenizer, size))
        self._tokenizer = llguidance.LLTokenizer(wrapped, n_vocab=size + 1, eos_token=size)
        self._unpack: _Unpack = lru_cache(_MASKS_KEPT)(self._make_mask)

    def compile(self, form: Form, end_ids: Iterable[int]) -> CompiledGrammar:
        """Compiles a form.

        Args:
            form: What the completion has to keep to.
            end_ids: Tokens that end it where the form may end.

        Raises:
            InvalidRequest: It is no form of its kind, or larger than llguidance's limits allow.
        """
        limits = llguidance.LLParserLimits(max_lexer_states=_MAX_LEXER_STATES, verbose_errors=False)
        try:
            grammar = _source(form)
        except ValueError as error:
            raise InvalidRequest(_field(form), str(error)) from error
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise InvalidRequest(_field(form), _message(matcher))
        bits = np.zeros(-(-(self.size + 1) // _WORD_BITS), np.int32)
        first = TokenMatcher(form, matcher, bits, tuple(end_ids), self._unpack)
        return CompiledGrammar(form, first)

    def _make_mask(self, bits: bytes, may_end: bool, end_ids: tuple[int, ...]) -> Mask:
        """See _Unpack."""
        words = np.frombuffer(bits, np.uint8)
        allowed = np.unpackbits(words, count=self.size, bitorder="little").view(np.bool_)
        allowed[list(end_ids)] = may_end
        return Mask.of(allowed)


class CompiledGrammar:
    """See matching.Grammar.

    Raises:
        InvalidRequest: No text is of the form.
    """

    def __init__(self, form: Form, first: TokenMatcher) -> None:
        self.form = form
        self._first = first
        # Where something is wrong with the whole of a grammar, its first mask shows it.
        first.mask()
        self.is_empty = first.may_only_end()

    def start(self) -> TokenMatcher:
        """See matching.Grammar."""
        return self._first.copy()


class TokenMatcher:
    """See matching.Matcher. For one thread at a time.

    Args:
        form: For its errors.
        matcher: llguidance's.
        bits: int32, as many as its masks have, to write one to.
        end_ids: The model's end tokens.
        unpack: Makes masks of them.
    """

    def __init__(
        self,
        form: Form,
        matcher: llguidance.LLMatcher,
        bits: NDArray[np.int32],
        end_ids: tuple[int, ...],
        unpack: _Unpack,
    ) -> None:
        self.complete = False
        self._form = form
        self._matcher = matcher
        self._bits = bits
        self._address = bits.ctypes.data
        self._end_ids = end_ids
        self._unpack = unpack
        self._taken = 0
        # How many of those, the last ones, are end tokens: llguidance is not told of them.
        self._ends = 0
        # At this place, once it was asked for.
        self._mask: Mask | None = None

    def mask(self) -> Mask:
        """See matching.Matcher."""
        if self._mask is None:
            self._mask = self._compute()
        return self._mask

    def take(self, token_id: int) -> None:
        """See matching.Matcher."""
        if self._ends or (token_id in self._end_ids and self._matcher.is_accepting()):
            self._ends += 1
            self._taken += 1
            self.complete = True
            return
        if not self._matcher.consume_token(token_id):
            self._refuse(_message(self._matcher))
        self._taken += 1
        self._mask = None
        # Where nothing but the end may follow, llguidance at times finds out one step later.
        self.complete = self._matcher.is_stopped() or self.may_only_end()

    def valid(self, token_ids: Many[int]) -> int:
        """See matching.Matcher."""
        return 0 if self.complete else self._matcher.validate_tokens(list(token_ids))

    def copy(self) -> TokenMatcher:
        """See matching.Matcher."""
        matcher, bits = self._matcher.deep_copy(), np.empty_like(self._bits)
        other = TokenMatcher(self._form, matcher, bits, self._end_ids, self._unpack)
        other.complete, other._taken, other._ends = self.complete, self._taken, self._ends
        other._mask = self._mask
        return other

    def rewind(self, count: int) -> None:
        """See matching.Matcher."""
        assert 0 <= count <= self._taken
        if not count:
            return
        inner = max(0, count - self._ends)
        if inner and not self._matcher.rollback(inner):
            self._refuse(_message(self._matcher))
        self._taken -= count
        self._ends = max(0, self._ends - count)
        self._mask = None
        self.complete = bool(self._ends) or self._matcher.is_stopped() or self.may_only_end()

    def may_only_end(self) -> bool:
        """Whether the form is complete here, and goes on with no token."""
        # Asked in this order, for masks take longer.
        if not self._matcher.is_accepting():
            return False
        mask = self.mask()
        return mask.is_sparse and len(mask.ids) == len(self._end_ids)

    def _compute(self) -> Mask:
        self._matcher.unsafe_compute_mask_ptr(self._address, self._bits.nbytes)
        if self._matcher.is_error():
            self._refuse(_message(self._matcher))
        may_end = self._matcher.is_accepting()
        mask = self._unpack(self._bits.tobytes(), may_end, self._end_ids)
        if mask.is_empty and not may_end:
            self._refuse("no token of the vocabulary can come next")
        return mask

    def _refuse(self, problem: str) -> None:
        after = f"after {self._taken} tokens: " if self._taken else ""
        raise InvalidRequest(_field(self._form), after + problem)


def _field(form: Form) -> str:
    return f"constraint.{form.kind}"


def _message(matcher: llguidance.LLMatcher) -> str:
    message = matcher.get_error().removesuffix("<non-verbose/>").strip()
    return "no text matches" if message == _NO_TEXT else message


def _source(form: Form) -> str:
    """A form in llguidance's own notation.

    Raises:
        ValueError: A schema is no JSON, or neither an object nor true or false.
    """
    if form.kind == "json_schema":
        schema = form.texts[0].strip()
        if schema == "true":
            schema = "{}"  # the same, and has room for defaults
        elif schema == "false":
            raise ValueError("no text matches: the schema is false")
        elif not schema.startswith("{"):
            raise ValueError("is no JSON schema: neither an object nor true or false")
        # What x-guidance in the schema does not say otherwise: no white space between the parts.
        # A model may go on with blanks for as long as it is allowed to.
        return llguidance.LLMatcher.grammar_from_json_schema(
            schema, defaults={"whitespace_flexible": False}
        )
    if form.kind == "regex":
        return llguidance.LLMatcher.grammar_from_regex(form.texts[0])
    if form.kind == "grammar":
        return llguidance.LLMatcher.grammar_from_lark(form.texts[0])
    # A terminal, not a rule: one lexeme however many there are. Its strings are JSON's.
    alternatives = " | ".join(map(json.dumps, form.texts))
    return llguidance.LLMatcher.grammar_from_lark(f"start: CHOICE\nCHOICE: {alternatives}")
