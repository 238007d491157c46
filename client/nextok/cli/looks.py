"""Values for people: tables, bars and shades.

Knows rich. Text that comes from a model is never taken for markup, and its control characters
never reach the terminal.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from nextok.candidates import Candidate
from nextok.formatting import percent, percent_of_logprob, quoted, tokens
from nextok.model import Model
from nextok.tokens import TextToken
from nextok.values import Finish, FinishReason, GenerateSummary

_BAR_WIDTH = 30
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_FULL_SHADE_NATS = 8.0  # a token of this surprisal, or more, gets the strongest colour
_SHADES = 16

# Everything below the space but line end and tab, and what stands between 7F and 9F.
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160)], "�")
del _CONTROLS[9], _CONTROLS[10]


def console(*, stderr: bool = False) -> Console:
    """Returns a console that writes no control code to a pipe, or where NO_COLOR is set."""
    plain = bool(os.environ.get("NO_COLOR"))
    return Console(
        stderr=stderr,
        color_system=None if plain else "auto",
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


def clean(text: str) -> str:
    """Returns text that a terminal can do nothing with but show it."""
    return text.translate(_CONTROLS)


def token_table(text_tokens: Iterable[TextToken]) -> Table:
    """Shows a text's tokens."""
    table = _table("id", "token", "bytes", "byte", "char", right=("id",))
    for token in text_tokens:
        table.add_row(
            str(token.id),
            quoted(token.token),
            token.bytes.hex(" "),
            f"{token.byte_start}-{token.byte_end}",
            f"{token.char_start}-{token.char_end}",
        )
    return table


def candidate_table(candidates: Sequence[Candidate]) -> Table:
    """Shows candidates as a bar chart of the model's probabilities, the largest full length.

    The sampler's probability has a column where it is another one.
    """
    sampled = any(abs(math.exp(c.logprob) - c.prob) > 1e-4 for c in candidates)
    columns = ("rank", "id", "token", "model", *(("sampler",) if sampled else ()))
    table = _table(*columns, right=("rank", "id", "model", "sampler"))
    table.add_column()
    largest = max((c.logprob for c in candidates), default=0.0)
    for c in candidates:
        cells = [str(c.rank), str(c.id), quoted(c.token), percent_of_logprob(c.logprob)]
        if sampled:
            cells.append(percent(c.prob) if c.kept else "cut")
        table.add_row(*cells, Text(bar(math.exp(c.logprob - largest)), style="cyan"))
    return table


def bar(share: float, width: int = _BAR_WIDTH) -> str:
    """Returns a bar for a share from 0 to 1 of a width, in eighths of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def shade(surprisal: float) -> Style:
    """Returns the colour of a token: none where it was expected, red where it was not."""
    return _STYLES[round(min(max(surprisal / _FULL_SHADE_NATS, 0.0), 1.0) * _SHADES)]


def _style(level: int) -> Style:
    if level == 0:
        return Style.null()
    # From pale yellow to red, with black on it: readable on light and dark terminals.
    rest = 1 - level / _SHADES
    red, green, blue = 255, round(90 + 155 * rest), round(80 + 100 * rest)
    return Style(color="black", bgcolor=f"rgb({red},{green},{blue})")


_STYLES = [_style(level) for level in range(_SHADES + 1)]


def completion_line(choice: int, finish: Finish | None) -> str:
    """Returns how one of several completions ended: number, reason, tokens."""
    parts = [_reason(finish)]
    if finish is not None:
        parts.append(tokens(finish.completion_tokens))
    return f"choice {choice}: " + ", ".join(parts)


def finish_line(finishes: Sequence[Finish], summary: GenerateSummary | None) -> str:
    """Returns how a generation ended: reason, or how many completions it has; speed, tokens."""
    several = len(finishes) > 1
    parts = [f"{len(finishes)} completions" if several else _reason(next(iter(finishes), None))]
    if summary is not None:
        usage, timings = summary.usage, summary.timings
        parts.append(tokens(usage.completion_tokens))
        # The first tokens are the prefill's.
        decoded = usage.completion_tokens - max(1, len(finishes))
        if timings.decode_seconds > 0 and decoded > 0:
            parts.append(f"{decoded / timings.decode_seconds:.1f} tokens/s")
        parts.append(f"prompt {tokens(usage.prompt_tokens)} ({usage.cached_tokens} cached)")
        if usage.drafted_tokens:
            right = usage.accepted_draft_tokens
            parts.append(f"drafts {tokens(usage.drafted_tokens)} ({right} right)")
        first = timings.queue_seconds + timings.prefill_seconds
        parts.append(f"{first * 1000:.0f} ms to the first token")
    return ", ".join(parts)


def _reason(finish: Finish | None) -> str:
    if finish is None:
        return "not finished"
    if finish.stop is not None:
        return f"{finish.finish_reason} at {quoted(finish.stop)}"
    for token_id in (finish.stop_token_id, finish.eos_token_id):
        if token_id is not None:
            return f"{finish.finish_reason} at token {token_id}"
    if finish.finish_reason is FinishReason.STOP:
        return f"{finish.finish_reason}, the form is complete"
    return str(finish.finish_reason)


def model_table(model: Model) -> Table:
    """Shows what is served."""
    table = _table("", "")
    table.show_header = False
    rows = {
        "model": model.name,
        "precision": model.precision,
        "size": f"{model.layers} layers, {model.heads} heads, width {model.width}",
        "vocabulary": f"{model.vocabulary_size} tokens, ends with {list(model.eos_token_ids)}",
        "context": f"{model.context_length} tokens",
        "artifact": model.artifact_sha256,
        "source": model.source_sha256,
        "capabilities": ", ".join(model.capabilities) or "none beyond generation",
        "versions": f"server {model.server_version}, ONNX Runtime {model.onnxruntime_version}",
        "threads": str(model.threads),
        "limits": _limits(model),
    }
    for name, value in rows.items():
        table.add_row(name, clean(value))
    return table


def certificate_table(model: Model) -> Table:
    """Shows what the export measured."""
    certificate = model.certificate
    kind = "approximate" if certificate.approximate else "exact"
    table = _table("scenario", "against", "positions", "max |Δlogprob|", "mean KL", "top-1")
    table.title = f"Certificate: {kind}, {certificate.positions} positions"
    for row in certificate.comparisons:
        table.add_row(
            clean(row.scenario),
            clean(row.reference),
            str(row.positions),
            f"{row.max_abs_logprob_difference:.2e}",
            f"{row.mean_kl:.2e}",
            f"{row.top1_agreement:.2%}",
        )
    return table


def _limits(model: Model) -> str:
    limits = model.limits
    return (
        f"{limits.max_prompt_bytes} bytes of prompt, top {limits.max_top_logprobs}, "
        f"{limits.slots} slots, {limits.max_queue} waiting"
    )


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table
