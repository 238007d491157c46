"""Requests with one thing wrong, made from the contract's descriptors and a table of ranges.

Each is a valid request, drawn at random, with the wire bytes of one bad value behind it. The table
is the contract's comments once more, by hand, so that it can disagree with the server.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from support import wire_bytes

from nextok.v1 import text_generation_pb2 as pb

NAN, INF = math.nan, math.inf
UINT32 = (1 << 32) - 1
FLOAT_MAX = 3.4e38
NOT_UTF8 = b"a\xff\xfe\x00b"
REPEATED = 10_000
Values = list[Any]
Path = tuple[FieldDescriptor, ...]


@dataclass(frozen=True)
class BadRequest:
    """What to send, and what has to be named in the answer.

    Attributes:
        rpc: The method's name.
        field: Path of the field that is wrong.
        what: Its value, in short.
        data: The request, as it is sent.
        before: What is sent before it in the same call, each with one answer.
    """

    rpc: str
    field: str
    what: str
    data: bytes
    before: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Rule:
    """What a field may hold.

    Attributes:
        good: Values that are fine beside all others' good ones.
        bad: Each a list of occurrences of the field.
    """

    good: Values
    bad: list[Values]


def _number(low: float, high: float, *, over: bool = False) -> Rule:
    below = [low] if over else []
    bad = [*below, low - 1, low - 1e-3, high + 1, high * 10 + 1, FLOAT_MAX, -FLOAT_MAX]
    good = [high, (low + high) / 2, *([] if over else [low])]
    return Rule(good, [[value] for value in (*bad, NAN, INF, -INF)])


def _text(limit: int, *, empty: bool) -> Rule:
    long = [b"a " * (limit // 2) + b"aa", b"\0" * (10 * limit)]
    bad = [NOT_UTF8, b"\xed\xa0\x80", b"\xc0\x80", *long, *([b""] if empty else [])]
    return Rule([b"hello", b"a\0b", b" \xe6\x97\xa5"], [[value] for value in bad])


def _ids(vocabulary: int, most: int, *, empty: bool = False, good: Values | None = None) -> Rule:
    past = [vocabulary, -1, UINT32, (1 << 31) - 1, 10 * vocabulary]
    bad: list[Values] = [[value] for value in past] + [[0, value] for value in past]
    counts = [count for count in (most + 1, 10 * most, REPEATED) if count > most]
    bad += [[7] * count for count in counts]
    return Rule(good or [0, vocabulary - 1], bad + ([[]] if empty else []))


def _count(low: int, high: int, good: Values) -> Rule:
    bad = [*range(low), high + 1, 10 * high, -1, UINT32]
    return Rule(good, [[value] for value in bad if not low <= value <= high])


_ANYTHING = Rule([0, 1, -1, (1 << 31) - 1], [])


def rules(model: pb.GetModelResponse) -> dict[str, Rule]:
    """The table, by message and field; a path in a request comes before that."""
    limits, vocabulary = model.limits, model.vocabulary_size
    context, size = model.context_length, limits.max_prompt_bytes
    stop = _text(limits.max_stop_bytes, empty=True)
    bias = [{"key": key, "value": 1.0} for key in (vocabulary, UINT32)]
    bias += [{"key": 0, "value": value} for value in (NAN, INF, -INF, 100.5, -101, FLOAT_MAX)]
    many = [{"key": key, "value": 1.0} for key in range(REPEATED)]
    return {
        "GenerateRequest.prompt": Rule([], [[]]),
        "ScoreRequest.prompt": Rule([], [[]]),
        "Prompt.text": _text(size, empty=True),
        "TokenIds.ids": _ids(vocabulary, context, empty=True),
        "ScoreRequest.prompt.token_ids.ids": _ids(vocabulary, size, empty=True),
        "ScoreRequest.continuations.token_ids.ids": _ids(vocabulary, size, empty=True),
        "ScoreRequest.continuations": Rule(
            [], [[b""], [b"\n\1a"] * (limits.max_continuations + 1)]
        ),
        "ScoreRequest.stride": _count(1, context, [1, context]),
        "TokenizeRequest.text": _text(size, empty=False),
        "DetokenizeRequest.token_ids": _ids(vocabulary, size),
        "SamplingParams.temperature": _number(0, 100),
        "SamplingParams.top_k": _ANYTHING,
        "SamplingParams.top_p": _number(0, 1, over=True),
        "SamplingParams.min_p": _number(0, 1),
        "SamplingParams.repetition_penalty": _number(0, 100, over=True),
        "SamplingParams.presence_penalty": _number(-100, 100),
        "SamplingParams.frequency_penalty": _number(-100, 100),
        "SamplingParams.logit_bias": Rule(
            [{"key": 0, "value": -100}, {"key": vocabulary - 1, "value": 100}],
            [*([entry] for entry in bias), many[: limits.max_logit_bias + 1], many],
        ),
        "SamplingParams.seed": _ANYTHING,
        # Together with the good values of the others: at least 4 tokens, 2 of them given.
        "StopConditions.max_tokens": Rule([4, 5], [[0]]),
        "StopConditions.min_tokens": Rule([0, 4], [[UINT32], [-1]]),
        "StopConditions.stop": Rule(stop.good, [*stop.bad, [b"a"] * (limits.max_stop + 1)]),
        "StopConditions.stop_token_ids": _ids(vocabulary, limits.max_stop_token_ids),
        "StopConditions.ignore_eos": _ANYTHING,
        "LogprobOptions.top_logprobs": _count(0, limits.max_top_logprobs, [0, 5]),
        "LogprobOptions.token_ids": _ids(vocabulary, limits.max_logprob_token_ids),
        "LogprobOptions.full_vocabulary": _ANYTHING,
        "GenerateRequest.prompt_logprobs": _ANYTHING,
        "GenerateRequest.resume_token_ids": _ids(vocabulary, context),
        "GenerateRequest.n": Rule([1], [[0], [limits.max_choices + 1], [UINT32]]),
        "GenerateRequest.bypass_prefix_reuse": _ANYTHING,
        "GenerateRequest.drafts": _ANYTHING,
        "GenerateRequest.priority": _ANYTHING,
        "ScoreRequest.bypass_prefix_reuse": _ANYTHING,
        "ScoreRequest.priority": _ANYTHING,
        "ExploreRequest.prompt": Rule([], [[]]),
        "ExploreRequest.max_depth": Rule([1, 3], [[0], [context + 1], [UINT32]]),
        "ExploreRequest.max_width": _count(1, limits.max_top_logprobs, [1, 5]),
        "ExploreRequest.min_probability": _number(0, 1),
        "ExploreRequest.max_nodes": _count(1, limits.max_explore_nodes, [1, 5]),
        "ExploreRequest.max_seconds": _number(0, limits.max_explore_seconds, over=True),
        "ExploreRequest.bypass_prefix_reuse": _ANYTHING,
        "ExploreRequest.priority": _ANYTHING,
        "StartAction.prompt": Rule([], [[]]),
        "InteractRequest.branch_id": Rule([0], [[1], [10], [UINT32], [-1]]),
        "PickAction.token_id": Rule(
            [0, vocabulary - 1], [[value] for value in (vocabulary, 10 * vocabulary, UINT32, -1)]
        ),
        "SampleAction.count": Rule([1, 2], [[0], [context + 1], [10 * context], [UINT32], [-1]]),
        "ForceAction.tokens": Rule([], [[]]),
        # Nothing was appended that could be taken off.
        "RewindAction.count": Rule([0], [[1], [10 * context], [UINT32], [-1]]),
    }


# Parts of the contract that a server may lack.
NOT_LISTED = ("GenerateRequest.constraint", "InteractRequest.start.constraint")
RPCS: dict[str, type[Message]] = {
    "Tokenize": pb.TokenizeRequest,
    "Detokenize": pb.DetokenizeRequest,
    "Generate": pb.GenerateRequest,
    "Score": pb.ScoreRequest,
    "Explore": pb.ExploreRequest,
}
ACTION = pb.InteractRequest.DESCRIPTOR
_FIELDS = ACTION.fields_by_name
ACTIONS = [field.name for field in ACTION.oneofs_by_name["action"].fields]
_LATER = [name for name in ACTIONS if name not in ("start", "stop")]


def paths(message: Descriptor, above: Path = ()) -> Iterator[Path]:
    """The paths to all fields, those of messages inside it too."""
    for field in message.fields:
        own = (*above, field)
        yield own
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from paths(field.message_type, own)


def name(message: Descriptor, path: Path) -> str:
    """A path in a request, as `rules` writes it."""
    return ".".join((message.name, *(field.name for field in path)))


def find(table: dict[str, Rule], message: Descriptor, path: Path) -> Rule | None:
    """The rule for a field: of its place in the request, or of its message."""
    last = path[-1]
    return table.get(name(message, path)) or table.get(f"{last.containing_type.name}.{last.name}")


def bad_requests(
    table: dict[str, Rule], dice: random.Random, *, most_bytes: int
) -> Iterator[BadRequest]:
    """Every field with every bad value up to a size, in surroundings drawn at random."""
    for rpc, kind in RPCS.items():
        for path in paths(kind.DESCRIPTOR):
            rule = find(table, kind.DESCRIPTOR, path)
            for values in rule.bad if rule else ():
                if _size(values) > most_bytes:
                    continue
                good = good_request(kind.DESCRIPTOR, table, dice, besides=path)
                what = f"{len(values)} x {str(values[-1])[:20]}" if values else "none"
                field = ".".join(field.name for field in path)
                yield BadRequest(rpc, field, what, good + _occurrences(path, values))


def bad_starts(
    table: dict[str, Rule], dice: random.Random, *, most_bytes: int
) -> Iterator[BadRequest]:
    """The same for what a call of Interact begins with, and all that none can begin with."""
    for path, values in _bad_values(table, most_bytes, ("branch_id", "start")):
        good = good_action("start", table, dice, besides=path[1:])
        yield _bad_action(path, values, good)
    for name in _LATER:
        yield BadRequest("Interact", "start", name, good_action(name, table, dice))
    for name in ("nothing", "stop"):
        data = b"" if name == "nothing" else good_action(name, table, dice)
        yield BadRequest("Interact", "start", name, data)


def bad_actions(
    table: dict[str, Rule], dice: random.Random, branches: int, *, most_bytes: int
) -> Iterator[BadRequest]:
    """The same for what comes later in a call of Interact.

    Args:
        table: What may be.
        dice: Draws the surroundings.
        branches: Of a call, at most.
        most_bytes: Of a value.
    """

    def start() -> bytes:
        return good_action("start", table, dice)

    for path, values in _bad_values(table, most_bytes, ("branch_id", *_LATER)):
        kind = path[0].name if len(path) > 1 else dice.choice(_LATER)
        good = good_action(kind, table, dice, besides=path[1:])
        yield _bad_action(path, values, good, start())
    yield BadRequest("Interact", "action", "nothing", b"", (start(),))
    yield BadRequest("Interact", "start", "again", start(), (start(),))
    for name in _LATER:
        dropped = (start(), good_action("drop", table, dice))
        data = good_action(name, table, dice)
        yield BadRequest("Interact", "branch_id", f"{name} of a dropped one", data, dropped)
    forks = [good_action("fork", table, dice)] * branches
    yield BadRequest("Interact", "fork", "one too many", forks[0], (start(), *forks[1:]))


def _bad_values(
    table: dict[str, Rule], most_bytes: int, parts: tuple[str, ...]
) -> Iterator[tuple[Path, Values]]:
    for path in paths(ACTION):
        rule = find(table, ACTION, path)
        if path[0].name in parts and rule:
            for values in rule.bad:
                if _size(values) <= most_bytes:
                    yield path, values


def _bad_action(path: Path, values: Values, good: bytes, *before: bytes) -> BadRequest:
    what = f"{len(values)} x {str(values[-1])[:20]}" if values else "none"
    field = ".".join(field.name for field in path)
    return BadRequest("Interact", field, what, good + _occurrences(path, values), before)


def good_action(
    kind: str, table: dict[str, Rule], dice: random.Random, *, besides: Path = ()
) -> bytes:
    """A valid action of a kind, as far as that does not depend on those before it."""
    field = _FIELDS[kind]
    return wire_bytes.nested(
        [field], good_request(field.message_type, table, dice, besides=besides)
    )


def good_request(
    message: Descriptor, table: dict[str, Rule], dice: random.Random, *, besides: Path = ()
) -> bytes:
    """A valid request with some fields, but for one path and what is inside it."""
    data = b""
    for path in paths(message):
        rule = find(table, message, path)
        is_needed = path[-1].name == "text" and path[0].name in ("prompt", "text", "tokens")
        if besides[:1] == path[:1] and (is_needed or path[: len(besides)] == besides):
            continue
        if rule and rule.good and (is_needed or (not _is_given(path) and dice.random() < 0.3)):
            data += _occurrences(path, [dice.choice(rule.good)])
    return data


def _is_given(path: Path) -> bool:
    """Whether it would take the place of the text that a request has."""
    return path[0].name in ("prompt", "tokens") or "token_ids" in [
        field.name for field in path[:-1]
    ]


def _size(values: Values) -> int:
    """Bytes of so many occurrences, at least."""
    return sum(len(value) if isinstance(value, bytes) else 2 for value in values)


def _occurrences(path: Path, values: Values) -> bytes:
    """The wire bytes of a field, to be put behind a request; without values, of its message."""
    *outer, last = path
    return wire_bytes.nested(outer, b"".join(_occurrence(last, value) for value in values))


def _occurrence(field: FieldDescriptor, value: Any) -> bytes:
    if isinstance(value, dict):
        entry = field.message_type.fields_by_name
        value = b"".join(wire_bytes.field(entry[key], item) for key, item in value.items())
    return wire_bytes.field(field, value)


def anything(message: Descriptor, draw: Callable[[Values], Any]) -> bytes:
    """Up to three fields with whatever their types can carry, in range or not.

    Args:
        message: What the request is of.
        draw: Takes one of several values.
    """
    every = [path for path in paths(message) if path[-1].message_type is None]
    data = b""
    for _ in range(draw([1, 2, 3])) if every else ():
        path = draw(every)
        kind = path[-1].cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            value = draw([b"", b"a", NOT_UTF8, b"\0", b"a+", b"{}", b"[" * 500, b"x" * 70_000])
        elif kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
            value = draw([0, -1, 0.5, 1e-30, FLOAT_MAX, -FLOAT_MAX, NAN, INF, -INF])
        else:
            value = draw([0, 1, 2, -1, 128, 50257, (1 << 31) - 1, UINT32, 1 << 63])
        data += _occurrences(path, [value])
    return data
