"""How results show themselves in a notebook: HTML with inline styles, and nothing to install.

Knows HTML. Everything that comes from a model or a user is escaped. Colours are transparent
ones, so that they fit light and dark pages alike.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from nextok.formatting import percent, percent_of_logprob, quoted, tokens, total_line, tree_line

if TYPE_CHECKING:
    from nextok.candidates import Candidate
    from nextok.lockstep import ContrastStep
    from nextok.scores import ScoreTotal
    from nextok.tokens import TextToken
    from nextok.trees import ExploreNode, ExploreSummary
    from nextok.values import Distribution, Finish, ScoredToken, Step

_FULL_SHADE_NATS = 8.0  # a token of this surprisal, or more, gets the strongest colour
_MOST_NODES = 500  # of a tree
_OPEN_DEPTH = 2  # deeper nodes show their children when asked
_BRANCH = "margin-left:1.4em"
_MOST_DIVERGENCE_NATS = math.log(2)  # of Jensen and Shannon's
_BAR = "rgba(0,140,190,.3)"


def token_table(text_tokens: Iterable[TextToken]) -> str:
    """Shows a text's tokens: ids, texts, bytes and places."""
    rows = [
        (
            str(token.id),
            quoted(token.token),
            token.bytes.hex(" "),
            f"{token.byte_start}-{token.byte_end}",
            f"{token.char_start}-{token.char_end}",
        )
        for token in text_tokens
    ]
    return _table(("id", "token", "bytes", "byte", "char"), rows)


def candidate_table(candidates: Iterable[Candidate]) -> str:
    """Shows tokens that could come next, with bars for both of their probabilities."""
    listed = list(candidates)
    most = max((c.logprob for c in listed), default=0.0)
    most_prob = max((c.prob for c in listed), default=0.0) or 1.0
    rows = [
        (
            str(c.rank),
            str(c.id),
            quoted(c.token),
            (percent_of_logprob(c.logprob), math.exp(c.logprob - most)),
            (percent(c.prob) if c.kept else "cut", c.prob / most_prob),
        )
        for c in listed
    ]
    return _table(("rank", "id", "token", "model", "sampler"), rows)


def distribution(shown: Distribution) -> str:
    """Shows what could come next: the candidates, and how much is open beyond them."""
    open_ = f"entropy {shown.entropy:.2f} nats, all others {percent(shown.tail_mass)}"
    if shown.allowed_mass is not None:
        open_ += f", the constraint allows {percent(shown.allowed_mass)}"
    table = candidate_table((*shown.top_logprobs, *shown.token_logprobs))
    return f'<div>{table}<div style="opacity:.6;font-size:smaller">{escape(open_)}</div></div>'


def step_table(step: Step | ScoredToken) -> str:
    """Shows one step, or one scored token: what came, and the candidates."""
    chosen = f"{quoted(step.token)}  id {step.id}"
    if step.logprob is not None:
        chosen += f"  {percent_of_logprob(step.logprob)}  rank {step.rank}"
    table = candidate_table((*step.top_logprobs, *step.token_logprobs))
    return f"<div><code>{escape(chosen)}</code>{table}</div>"


def generation(
    prompt: Sequence[TextToken],
    prompt_logprobs: Sequence[ScoredToken],
    completions: Iterable[tuple[Sequence[Step], Finish | None]],
) -> str:
    """Shows a generation: tokens shaded by surprisal, their candidates on hover.

    Each of several completions has a paragraph of its own, with the prompt before it.
    """
    if prompt_logprobs:
        spans = [_span(s.token, s.surprisal, _hover(s), "opacity:.7") for s in prompt_logprobs]
    else:
        spans = [_span(t.token, None, f"id {t.id}", "opacity:.7") for t in prompt]
    return "".join([_completion("".join(spans), *completion) for completion in completions])


def _completion(prompt: str, steps: Sequence[Step], finish: Finish | None) -> str:
    spans = [_span(step.delta, step.surprisal, _hover(step)) for step in steps]
    reason = finish.finish_reason if finish else "not finished"
    return _paragraph(prompt + "".join(spans), f"{tokens(len(steps))}, {reason}")


def _paragraph(spans: str, below: str) -> str:
    return (
        f'<div style="white-space:pre-wrap;line-height:1.6">{spans}</div>'
        f'<div style="opacity:.6;font-size:smaller">{escape(below)}</div>'
    )


def branch(number: int, prompt: Sequence[TextToken], steps: Sequence[Step]) -> str:
    """Shows a branch of an interactive generation, like a completion."""
    spans = [_span(token.token, None, f"id {token.id}", "opacity:.7") for token in prompt]
    spans += [_span(step.token, step.surprisal, _hover(step)) for step in steps]
    return _paragraph("".join(spans), f"branch {number}, {tokens(len(steps))}")


def scoring(scored: Sequence[ScoredToken], totals: Sequence[ScoreTotal]) -> str:
    """Shows a scoring: tokens shaded by surprisal, a paragraph for each text, its total below."""
    texts = {token.continuation: "" for token in scored}
    for token in scored:
        texts[token.continuation] += _span(token.token, token.surprisal, _hover(token))
    ends = {total.continuation: total_line(total) for total in totals}
    return "".join(
        _paragraph(spans, ends.get(continuation, "not finished"))
        for continuation, spans in texts.items()
    )


def contrast(steps: Sequence[ContrastStep]) -> str:
    """Shows a contrast: tokens shaded by how far apart the two sides were."""
    spans = [
        _span(
            step.token,
            step.js / _MOST_DIVERGENCE_NATS * _FULL_SHADE_NATS,
            f"{quoted(step.token)}  id {step.id}\n{percent(step.prob)} and "
            f"{percent(step.other_prob)}\nJS {step.js:.4f}, KL {step.kl:.4f} nats",
        )
        for step in steps
    ]
    rows = [
        (
            quoted(step.token),
            percent(step.prob),
            percent(step.other_prob),
            f"{step.kl:.4f}",
            f"{step.reverse_kl:.4f}",
            f"{step.js:.4f}",
        )
        for step in steps
    ]
    table = _table(("token", "first", "other", "KL", "reverse KL", "JS"), rows)
    return f'<div style="white-space:pre-wrap;line-height:1.6">{"".join(spans)}</div>{table}'


def contrast_candidates(step: ContrastStep) -> str:
    """Shows one step of a contrast: the likeliest tokens of both sides."""
    rows = [
        (str(c.id), quoted(c.token), percent(c.prob), percent(c.other_prob))
        for c in step.candidates
    ]
    head = f"{quoted(step.token)}  JS {step.js:.4f}  KL {step.kl:.4f}  {step.reverse_kl:.4f} nats"
    table = _table(("id", "token", "first", "other"), rows)
    return f"<div><code>{escape(head)}</code>{table}</div>"


def tree(
    prompt: Sequence[TextToken], nodes: Sequence[ExploreNode], summary: ExploreSummary | None
) -> str:
    """Shows a tree: nested lists, each token with a bar of its probability after its parent.

    Of large ones the likeliest nodes.
    """
    children: defaultdict[int, list[ExploreNode]] = defaultdict(list)
    for node in nodes[:_MOST_NODES]:
        children[node.parent_id].append(node)
    spans = "".join([_span(t.token, None, f"id {t.id}", "opacity:.7") for t in prompt])
    left_out = len(nodes) - len(nodes[:_MOST_NODES])
    end = tree_line(summary) if summary else f"{len(nodes)} nodes, not finished"
    end += f"; the likeliest {_MOST_NODES} are shown" if left_out else ""
    return (
        f'<div style="white-space:pre-wrap">{spans}</div>{_branches(children, 0)}'
        f'<div style="opacity:.6;font-size:smaller">{escape(end)}</div>'
    )


def _branches(children: Mapping[int, Sequence[ExploreNode]], parent_id: int) -> str:
    items: list[str] = []
    # Not by recursion: a tree may be as deep as the context is long.
    waiting = [iter(children.get(parent_id, ()))]
    while waiting:
        node = next(waiting[-1], None)
        if node is None:
            waiting.pop()
            items.append("</details></div>" if waiting else "")
            continue
        below = children.get(node.node_id)
        if below is None:
            items.append(f'<div style="{_BRANCH}">{_node(node)}</div>')
        else:
            opened = " open" if node.depth < _OPEN_DEPTH else ""
            items.append(
                f'<div style="{_BRANCH}"><details{opened}><summary>{_node(node)}</summary>'
            )
            waiting.append(iter(below))
    return "".join(items)


def _node(node: ExploreNode) -> str:
    token = node.candidate
    hover = (
        f"id {token.id}  rank {token.rank}  {math.exp(node.cumulative_logprob):.2e} from the root"
    )
    bar = (
        '<span style="display:inline-block;height:.7em;background:rgba(255,110,0,.55);'
        f'width:{6 * math.exp(token.logprob):.2f}em"></span>'
    )
    return (
        f'<span title="{escape(hover)}" style="font-family:monospace;white-space:pre">'
        f"{escape(quoted(token.token))}</span> {percent_of_logprob(token.logprob)} {bar}"
    )


def _span(text: str, surprisal: float | None, hover: str, style: str = "") -> str:
    if surprisal is not None:
        strength = min(max(surprisal, 0.0) / _FULL_SHADE_NATS, 1.0)
        style = f"background:rgba(255,110,0,{0.65 * strength:.3f});{style}"
    title = escape(hover).replace("\n", "&#10;")
    return f'<span title="{title}" style="{style}">{escape(text)}</span>'


def _hover(token: Step | ScoredToken) -> str:
    lines = [f"{quoted(token.token)}  id {token.id}"]
    if token.logprob is not None and token.surprisal is not None:
        lines.append(
            f"{percent_of_logprob(token.logprob)}  rank {token.rank}  {token.surprisal:.2f} nats"
        )
    lines += [_candidate_line(candidate) for candidate in token.top_logprobs]
    return "\n".join(lines)


def _candidate_line(candidate: Candidate) -> str:
    return f"{candidate.rank}. {quoted(candidate.token)}  {percent_of_logprob(candidate.logprob)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str | tuple[str, float]]]) -> str:
    """A table; a cell is a text, or a text with a bar behind it for a share from 0 to 1."""
    heading = "".join(f"<th {_style()}>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>"


def _cell(cell: str | tuple[str, float]) -> str:
    if isinstance(cell, str):
        return f"<td {_style()}>{escape(cell)}</td>"
    text, share = cell
    width = f"{100 * min(max(share, 0.0), 1.0):.1f}%"
    bar = f"background:linear-gradient(90deg,{_BAR} {width},transparent {width});min-width:9em"
    return f"<td {_style(bar)}>{escape(text)}</td>"


def _style(more: str = "") -> str:
    return f'style="text-align:left;font-family:monospace;white-space:pre;{more}"'
