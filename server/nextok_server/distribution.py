"""From a row of the model's outputs to a step.

Knows: which numbers a request wants of a distribution, and how its next token is chosen.
Does not know: ONNX Runtime, scheduling, text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Many

import numpy as np

from nextok_server.candidates import NONE, Candidate
from nextok_server.errors import InvalidRequest
from nextok_server.events import Distribution, Failed, Outlook, PromptScore, Step
from nextok_server.masks import Mask
from nextok_server.rows import Rows, margin, top_mass
from nextok_server.sampling import (
    Choice,
    Occurrences,
    Row,
    SamplingParams,
    candidates,
    draw,
    filter_row,
    needs_occurrences,
    top_candidates,
)
from nextok_server.sequence import Outputs, Sequence, StopParams

# A given token is scored against the raw distribution: nothing is filtered.
_RAW = SamplingParams()


def advance_at(
    sequence: Sequence, rows: Rows, index: int, draft: int | None = None
) -> Step | Failed:
    """Chooses the sequence's next token, appends it and tells of it.

    Args:
        sequence: All of whose tokens are computed.
        rows: Of the step.
        index: Of the row that stands behind the last one.
        draft: The token that was drafted for this place; it is counted, and changes nothing.
    """
    if changes_nothing(sequence):
        position, top = len(sequence.tokens), sequence.request.outputs.top
        chosen = rows.choose(index, sequence.sampling, position, top)
        if chosen is not None:
            return _append(sequence, *chosen, draft)
    return advance(sequence, rows.at(index, sequence.sampling), draft)


def advance(sequence: Sequence, row: Row, draft: int | None = None) -> Step | Failed:
    """The same where the row is at hand."""
    try:
        return _advance(sequence, row, draft)
    except InvalidRequest as error:
        sequence.finished = True
        return Failed(error)


def _advance(sequence: Sequence, row: Row, draft: int | None) -> Step:
    """See `advance`.

    Raises:
        InvalidRequest: The constraint cannot be followed any further.
    """
    filtered = _filter(sequence, row)
    forced = sequence.forced.popleft() if sequence.forced else None
    token_id = forced
    if token_id is None:
        token_id = draw(sequence.sampling, filtered, len(sequence.tokens))
    distribution = _describe(row, filtered, sequence.request.outputs, _allowed_mass(sequence, row))
    # Mostly it is among the likeliest, and has been described with them.
    described = (candidate for candidate in distribution.top if candidate.token_id == token_id)
    token = next(described, None) or candidates(row, filtered, [token_id])[0]
    return _append(sequence, token, distribution, draft, forced=forced is not None)


def _append(
    sequence: Sequence,
    token: Candidate,
    distribution: Distribution,
    draft: int | None,
    *,
    forced: bool = False,
) -> Step:
    if not forced:
        sequence.draws = max(0, sequence.draws - 1)
    number = sequence.generated
    sequence.append(token.token_id)
    sequence.accepted += token.token_id == draft
    finish = sequence.finish_reason()
    sequence.finished = finish is not None
    return Step(
        number,
        token,
        forced,
        distribution,
        finish,
        time.monotonic(),
        sequence.drafted,
        sequence.accepted,
    )


def changes_nothing(sequence: Sequence) -> bool:
    """Whether `Rows.choose` is all that there is to a sequence's next step, and those behind it."""
    params, wanted = sequence.sampling, sequence.request.outputs
    return (
        not params.logit_bias
        and not needs_occurrences(params)
        and not wanted.token_ids
        and not wanted.full
        and not sequence.forced
        and sequence.matcher is None
        and sequence.generated >= sequence.request.stop.min_tokens
    )


def outlook(sequence: Sequence, row: Row) -> Outlook:
    """Tells of what could come next, `row`, and chooses nothing."""
    filtered, allowed_mass = _filter(sequence, row), _allowed_mass(sequence, row)
    distribution = _describe(row, filtered, sequence.request.outputs, allowed_mass)
    return Outlook(len(sequence.tokens), distribution, time.monotonic())


def score(
    wanted: Outputs, position: int, token_ids: Many[int], rows: Rows, index: int
) -> list[PromptScore]:
    """Tells how likely tokens were to stand at `position`, given row `index` before it."""
    row = rows.at(index, _RAW)
    filtered = filter_row(row, _RAW)
    distribution = _describe(row, filtered, wanted)
    at = time.monotonic()
    return [
        PromptScore(position, token.token_id, token, distribution, at=at)
        for token in candidates(row, filtered, token_ids)
    ]


def _filter(sequence: Sequence, row: Row) -> Choice:
    """What the sequence's parameters make of the row behind its last token."""
    params = sequence.sampling
    occurrences = None
    if needs_occurrences(params):
        prompt = sequence.request.prompt
        occurrences = Occurrences.of(prompt, sequence.tokens[len(prompt) :])
    banned, mask = sequence.banned(), None
    if sequence.matcher is not None:
        mask = _drawable(sequence.matcher.mask(), banned, sequence.request.stop)
        banned = frozenset()
    return filter_row(
        row,
        params,
        occurrences=occurrences,
        banned=np.array(sorted(banned), np.int64) if banned else None,
        mask=mask,
    )


def _drawable(mask: Mask, banned: frozenset[int], stop: StopParams) -> Mask:
    """What a constraint and a ban on ends leave in.

    Where a form goes on with stop tokens alone, one of them is chosen, and does not end it yet.

    Raises:
        InvalidRequest: Nothing.
    """
    if banned:
        rest = mask.without(banned)
        mask = mask.without(stop.eos_token_ids) if rest.is_empty else rest
    if mask.is_empty:
        raise InvalidRequest("constraint", "is complete, and no token may follow")
    return mask


def _allowed_mass(sequence: Sequence, row: Row) -> float | None:
    return None if sequence.matcher is None else sequence.matcher.mask().mass(row.logprobs)


def _describe(
    row: Row, filtered: Choice, wanted: Outputs, allowed_mass: float | None = None
) -> Distribution:
    listed = top_candidates(row, filtered, wanted.top) if wanted.top else NONE
    mass = top_mass(row.top_logprobs[: len(listed)])
    return Distribution(
        top=listed,
        chosen=candidates(row, filtered, wanted.token_ids),
        entropy=row.entropy,
        top_mass=mass,
        tail_mass=max(0.0, 1.0 - mass),
        margin=margin(row.top_logprobs),
        full=row.logprobs.copy() if wanted.full else None,
        allowed_mass=allowed_mass,
    )
