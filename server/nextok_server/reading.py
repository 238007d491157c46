"""What a computed chunk tells of its sequence.

Knows: which distributions a request wants, and what is read from them. Does not know: which
chunks are computed when, ONNX Runtime.
"""

from __future__ import annotations

from dataclasses import replace

from nextok_server.distribution import advance_at, score
from nextok_server.events import Event, PromptScore
from nextok_server.model import Chunk
from nextok_server.rows import Rows
from nextok_server.sequence import Scoring, Sequence


def wanted_columns(sequence: Sequence, start: int, length: int) -> range:
    """Columns of a chunk, which begins at `start`, whose distributions are wanted."""
    request = sequence.request
    if request.outputs.prompt:
        return range(length)
    if request.scoring is not None:
        return range(min(length, max(0, request.scoring.first - start)), length)
    is_last = start + length == len(sequence.tokens)
    return range(length - 1, length) if is_last else range(0)


def read_chunk(sequence: Sequence, chunk: Chunk, rows: Rows, row: int) -> list[Event]:
    """What becomes known with a chunk; may choose the sequence's next token, or end it.

    Args:
        sequence: Whose chunk, which it already counts as computed.
        chunk: What was computed.
        rows: Of the whole step.
        row: Where the distributions of `chunk.wanted` begin in them.
    """
    scoring = sequence.request.scoring
    if scoring is not None:
        return _read_scores(sequence, scoring, chunk, rows, row)
    wants_prompt = sequence.request.outputs.prompt
    events = read_prompt(sequence, chunk, rows, row) if wants_prompt else []
    if sequence.idle:
        events.append(advance_at(sequence, rows, row + len(chunk.wanted) - 1))
    return events


def read_prompt(sequence: Sequence, chunk: Chunk, rows: Rows, row: int) -> list[Event]:
    """What a chunk tells of the prompt's own tokens; arguments as above."""
    prompt, start = sequence.request.prompt, chunk.start
    events: list[Event] = []
    if start == 0:
        events.append(PromptScore(0, prompt[0]))
    for place in range(start, min(start + len(chunk.tokens), len(prompt) - 1)):
        token_ids = prompt[place + 1 : place + 2]
        events += score(sequence.request.outputs, place + 1, token_ids, rows, row + place - start)
    return events


def _read_scores(
    sequence: Sequence, scoring: Scoring, chunk: Chunk, rows: Rows, row: int
) -> list[Event]:
    request = sequence.request
    end = chunk.start + len(chunk.tokens)
    first = chunk.start + chunk.wanted.start
    scores: list[PromptScore] = []
    for place in range(max(first, scoring.first), end):
        token_ids = scoring.targets[place - scoring.first]
        scores += score(request.outputs, place + 1, token_ids, rows, row + place - first)
    if end == len(request.prompt):
        sequence.finished = True
        scores[-1] = replace(scores[-1], last=True)
    return [*scores]
