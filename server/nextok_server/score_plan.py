"""A scoring as the engine's sequences: one for each window and for each continuation.

Knows: texts, windows, what continuations of one prompt share. Does not know: the wire, when
sequences run.

Continuations that fit into the context after their prompt fork where it ends. The first of them has
the prompt's last distribution computed, which the first tokens of all of them are scored with.
The others begin behind the prompt, whose state they find in the cache, and are short enough to be
computed several at a time.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from nextok_server.sampling import SamplingParams
from nextok_server.sequence import Outputs, Request, Scoring, StopParams
from nextok_server.windows import Window, windows


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """What is to be scored.

    Attributes:
        prompt: Token ids, at least one.
        continuations: Texts to score after it, at least one token each; none: the prompt is scored.
        outputs: What each token tells.
        stride: Tokens that a window scores where a text is longer than the context.
        priority: Higher ones are started first.
        bypass_prefix_reuse: Takes nothing that other requests computed.
    """

    prompt: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]
    outputs: Outputs
    stride: int
    priority: int
    bypass_prefix_reuse: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of one text that one sequence scores.

    Attributes:
        request: What the engine has to do; None where nothing is left to compute.
        continuation: What is scored; None for the prompt.
        start: Place in the text of the first token that the model sees.
        firsts: Continuations whose first tokens this one scores, its own before the others;
            none where there are no others that it does so for.
        ends: Whether the text's last token is in it.
    """

    request: Request | None
    continuation: int | None = None
    start: int = 0
    firsts: tuple[int, ...] = ()
    ends: bool = True


def parts(task: ScoreTask, context: int) -> Iterator[Part]:
    """What has to be computed, in the order of the results."""
    if not task.continuations:
        if len(task.prompt) == 1:
            yield Part(None)
        yield from _text(task, task.prompt, 1, None, context)
        return
    room = context + 1 - len(task.prompt)
    forked = [i for i, ids in enumerate(task.continuations) if len(ids) <= room]
    family = secrets.token_bytes(16) if len(forked) > 1 else b""
    for index, ids in enumerate(task.continuations):
        if index in forked:
            firsts = tuple(forked) if index == forked[0] else ()
            yield _branch(task, index, firsts, family)
        else:
            text = task.prompt + ids
            yield from _text(task, text, len(task.prompt), index, context)


def _text(
    task: ScoreTask, text: tuple[int, ...], first: int, continuation: int | None, context: int
) -> Iterator[Part]:
    """The windows over one text, of which everything from `first` on is scored."""
    for window in windows(len(text), first, context, task.stride):
        yield Part(
            _window(task, text, window),
            continuation=continuation,
            start=window.start,
            ends=window.end == len(text),
        )


def _window(task: ScoreTask, text: tuple[int, ...], window: Window) -> Request:
    return _request(
        task,
        text[window.start : window.end - 1],
        Scoring(window.first - 1 - window.start, _each(text[window.first : window.end])),
    )


def _branch(task: ScoreTask, index: int, firsts: tuple[int, ...], family: bytes) -> Part:
    """A continuation that fits after the prompt; with `firsts`, the one that leads the others."""
    ids, place = task.continuations[index], len(task.prompt)
    if firsts:
        scoring = Scoring(
            place - 1, (tuple(task.continuations[i][0] for i in firsts), *_each(ids[1:]))
        )
    elif len(ids) > 1:
        scoring = Scoring(place, _each(ids[1:]))
    else:
        return Part(None, continuation=index)
    request = _request(task, task.prompt + ids[:-1], scoring, fork=place, family=family)
    return Part(request, continuation=index, firsts=firsts)


def _each(ids: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple((token_id,) for token_id in ids)


def _request(
    task: ScoreTask,
    prompt: tuple[int, ...],
    scoring: Scoring,
    *,
    fork: int | None = None,
    family: bytes = b"",
) -> Request:
    return Request(
        prompt,
        SamplingParams(),
        StopParams(max_tokens=0),
        task.outputs,
        priority=task.priority,
        bypass_prefix_reuse=task.bypass_prefix_reuse,
        scoring=scoring,
        fork=fork,
        family=family,
    )
