"""What a request asks of the engine, and a request on its way through it.

Knows: what a request asks for, and the state of one running sequence.
Does not know: text, tensors of the model, gRPC.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from nextok_server.drafts import Drafter
from nextok_server.events import Event, FinishReason
from nextok_server.keys import Key
from nextok_server.matching import Grammar, Matcher
from nextok_server.orders import Fork, Order
from nextok_server.sampling import Row, SamplingParams


@dataclass(frozen=True, slots=True)
class StopParams:
    """When a sequence ends.

    Attributes:
        max_tokens: Most tokens to generate.
        min_tokens: End and stop tokens are not chosen before this many.
        stop_token_ids: Tokens that end the sequence.
        eos_token_ids: The model's own end tokens; empty where they are to be ignored.
        context_bound: Whether max_tokens is what the context has room for.
    """

    max_tokens: int
    min_tokens: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    eos_token_ids: frozenset[int] = frozenset()
    context_bound: bool = False


@dataclass(frozen=True, slots=True)
class Outputs:
    """What each step tells besides the chosen token.

    Attributes:
        top: How many of the most likely tokens.
        token_ids: Tokens to report whatever their rank.
        full: Whether to give the whole vocabulary.
        prompt: Whether to score the prompt's own tokens.
    """

    top: int = 0
    token_ids: tuple[int, ...] = ()
    full: bool = False
    prompt: bool = False


@dataclass(frozen=True, slots=True)
class Scoring:
    """Which tokens a sequence that generates nothing tells the probabilities of.

    Attributes:
        first: Place of the first token, of the prompt's, whose distribution is wanted.
        targets: For that one and each behind it, to the prompt's end: the tokens whose
            probabilities it gives, at least one.
    """

    first: int
    targets: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that the engine needs to know of a request.

    Attributes:
        prompt: Token ids, at least one.
        forced: Tokens of the completion that are given rather than drawn.
        priority: Higher ones are started first.
        bypass_prefix_reuse: Computes the whole prompt, whatever the cache holds of it.
        drafts: Whether tokens are drafted, and several verified in one pass.
        grammar: The form that the completion has to keep to.
        scoring: Ends at the prompt's end, and tells how likely given tokens were.
        fork: Where texts that begin like this one go on with tokens of their own: the prompt is
            cut there too, and chunks are counted anew. None: nowhere.
        family: Sequences of one family share what they compute, even where they share it with
            nobody else. Empty: of none.
        open: Goes on as it is ordered to, and tells the distribution behind its last token when it
            has done so; ends when it is cancelled. See orders.
        appended: Of an open one: tokens behind the prompt that it begins with. They are computed
            as generated ones are, and not told.
    """

    prompt: tuple[int, ...]
    sampling: SamplingParams
    stop: StopParams
    outputs: Outputs = Outputs()
    forced: tuple[int, ...] = ()
    priority: int = 0
    bypass_prefix_reuse: bool = False
    drafts: bool = False
    grammar: Grammar | None = None
    scoring: Scoring | None = None
    fork: int | None = None
    family: bytes = b""
    open: bool = False
    appended: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class Sequence:
    """A request on its way through the engine: the one mutable value.

    Attributes:
        caller: Who gets it, for those who share the slots out.
        tokens: Prompt and completion so far.
        sampling: How tokens are chosen from now on.
        forced: Tokens to append that were given.
        draws: Of an open sequence: tokens to draw after those.
        orders: Of an open sequence: what to do after that.
        at_work: Of an open sequence: whether the distribution behind its last token is still to be
            told, after what it is doing.
        row: Of an open sequence that is not at work: that distribution, where it is at hand.
        computed: How many of them the cache holds.
        cached: How many of those were not computed for this sequence but taken from others.
        keys: What the cache knows its chunks and tokens by; see kv_cache.
        slot: Row of the cache; -1 while waiting or parked.
        last_step: Number of the last step that computed something of it.
        read: Events that the reader took; written by the event loop, read by the engine.
        window: Events that may be unread before the sequence pauses.
        started_at: When the first computation began.
        first_drawn_at: When its first token was drawn; 0 before that.
        last_drawn_at: When its last token was drawn; 0 before the first.
        shelved: Of an open sequence: whether the state of tokens that are computed behind the
            prompt is put on the shelf.
        processed: Tokens that were computed for it, also those that were taken off since.
        settled: Those of them that its caller's turns were counted for.
        shared: Of a completion that was forked: tokens that it began with.
        drafter: Where the request wants drafts: what finds them.
        matcher: Where the request has a constraint: where the completion stands in its form.
        drafted: Tokens that were drafted.
        accepted: Those of them that were right.
        held: What the reader has not been told yet; see pacing.
        tell_at: `time.monotonic()` from which on it may be told again.
    """

    request: Request
    window: int
    caller: str = ""
    arrived_at: float = field(default_factory=time.monotonic)
    tokens: list[int] = field(default_factory=list)
    sampling: SamplingParams = field(init=False)
    forced: deque[int] = field(init=False)
    draws: int = 0
    orders: deque[Order | Fork] = field(default_factory=deque)
    at_work: bool = True
    row: Row | None = None
    computed: int = 0
    cached: int = 0
    keys: list[Key] = field(default_factory=list)
    slot: int = -1
    last_step: int = 0
    produced: int = 0
    read: int = 0
    started_at: float = 0.0
    first_drawn_at: float = 0.0
    last_drawn_at: float = 0.0
    shelved: bool = False
    processed: int = 0
    settled: int = 0
    shared: int = 0
    finished: bool = False
    drafter: Drafter | None = None
    matcher: Matcher | None = None
    drafted: int = 0
    accepted: int = 0
    held: list[Event] = field(default_factory=list)
    tell_at: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = [*self.request.prompt, *self.request.appended]
        self.sampling = self.request.sampling
        self.forced = deque(self.request.forced)
        if self.request.drafts:
            self.drafter = Drafter()
        if self.request.grammar is not None:
            self.matcher = self.request.grammar.start()
            for token_id in self.request.appended:
                self.matcher.take(token_id)

    @property
    def generated(self) -> int:
        """How many tokens of the completion there are."""
        return len(self.tokens) - len(self.request.prompt)

    @property
    def paused(self) -> bool:
        """Whether the reader is too far behind to go on."""
        return self.produced - self.read >= self.window

    @property
    def idle(self) -> bool:
        """Whether all that it has is computed: only an open sequence ever is."""
        return self.computed == len(self.tokens)

    @property
    def resting(self) -> bool:
        """Whether an open sequence has nothing to do, and holds on to what another could use."""
        return not self.at_work and (self.slot >= 0 or self.row is not None)

    def rewind(self, count: int) -> None:
        """Takes tokens off the end, none of them the prompt's."""
        assert 0 <= count <= self.generated
        del self.tokens[len(self.tokens) - count :]
        if self.matcher is not None:
            self.matcher.rewind(count)
        while self.keys and self.keys[-1].end > len(self.tokens):
            self.keys.pop()

    def append(self, token_id: int) -> None:
        """Takes in the next token of the completion.

        Raises:
            InvalidRequest: The constraint cannot be followed any further.
        """
        self.tokens.append(token_id)
        if self.matcher is not None:
            self.matcher.take(token_id)

    def extend(self, tokens: Iterable[int]) -> None:
        """Adds tokens, of which nothing is computed."""
        self.computed = min(self.computed, len(self.tokens))
        self.tokens.extend(tokens)

    def banned(self) -> frozenset[int]:
        """Tokens that may not be chosen yet."""
        stop = self.request.stop
        if self.generated >= stop.min_tokens:
            return frozenset()
        return stop.stop_token_ids | stop.eos_token_ids

    def finish_reason(self) -> FinishReason | None:
        """Whether the last token ended the sequence, and why."""
        if self.request.open:
            return None
        stop, last = self.request.stop, self.tokens[-1]
        if self.generated > stop.min_tokens:
            if last in stop.eos_token_ids:
                return FinishReason.EOS
            if last in stop.stop_token_ids:
                return FinishReason.STOP_TOKEN
        if self.matcher is not None and self.matcher.complete:
            return FinishReason.FORM
        if self.generated >= stop.max_tokens:
            return FinishReason.CONTEXT if stop.context_bound else FinishReason.LENGTH
        return None
