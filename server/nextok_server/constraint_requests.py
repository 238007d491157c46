"""Constraints from the wire: what they may hold, and which tokens of a broken stream they allow.

Knows: the wire message, the limits, the names of fields. Does not know: how forms are compiled.
"""

from __future__ import annotations

from collections.abc import Sequence as Many

from nextok.v1 import types_pb2 as types
from nextok_server.errors import InvalidRequest
from nextok_server.matching import Form, Grammar
from nextok_server.requests import Limits
from nextok_server.sequence import StopParams

_KINDS = [field.name for field in types.Constraint.DESCRIPTOR.oneofs_by_name["kind"].fields]


def read_constraint(message: types.Constraint, field: str, limits: Limits) -> Form:
    """The form that a completion has to keep to."""
    kind = message.WhichOneof("kind")
    if kind is None:
        raise InvalidRequest(field, f"has no kind: exactly one of {', '.join(_KINDS)} is needed")
    if kind == "choices":
        texts = tuple(message.choices.texts)
        if not texts:
            raise InvalidRequest(f"{field}.choices.texts", "has 0 entries, the least is 1")
        for index, text in enumerate(texts):
            if not text:
                raise InvalidRequest(
                    f"{field}.choices.texts[{index}]", "has 0 bytes, the least is 1"
                )
    else:
        texts = (getattr(message, kind),)
    size = sum(len(text.encode()) for text in texts)
    if size > limits.max_constraint_bytes:
        raise InvalidRequest(
            f"{field}.{kind}",
            f"has {size} bytes, the limit is {limits.max_constraint_bytes} (max_constraint_bytes)",
        )
    return Form(kind, texts)


def check_beginning(grammar: Grammar, stop: StopParams) -> None:
    """Checks that a completion of at least one token can come of a form."""
    if not grammar.is_empty:
        return
    field = f"constraint.{grammar.form.kind}"
    if stop.min_tokens:
        raise InvalidRequest(
            "stop_conditions.min_tokens",
            f"is {stop.min_tokens}, the range is 0 to 0 where {field} allows nothing but the "
            "empty text",
        )
    if not stop.eos_token_ids:
        raise InvalidRequest(
            field, "allows nothing but the empty text, and no end-of-text token can be chosen"
        )


def check_resume(grammar: Grammar, token_ids: Many[int], stop: StopParams) -> None:
    """Checks that the tokens of a broken stream are of the form."""
    if not token_ids:
        return
    has_end = token_ids[-1] in stop.eos_token_ids
    taken = token_ids[:-1] if has_end else token_ids
    matcher = grammar.start()
    valid = matcher.valid(taken)
    if valid == len(taken) and has_end:
        for token_id in taken:
            matcher.take(token_id)
        may_end = len(taken) >= stop.min_tokens and not matcher.complete
        valid += bool(may_end and matcher.mask().allowed[token_ids[-1]])
    if valid < len(token_ids):
        raise InvalidRequest(
            f"resume_token_ids[{valid}]",
            f"is {token_ids[valid]}, which constraint.{grammar.form.kind} does not allow there",
        )
