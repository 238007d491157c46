"""`nextok score`: how likely a text is, token by token.

Knows what the command asks the server and how a scoring looks as it comes. Tokens go to stdout,
what is said about them to stderr, so that a pipe gets the tokens alone.
"""

from __future__ import annotations

import codecs
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nextok.cli import connecting, json_lines, looks, options, stream
from nextok.formatting import percent_of_logprob, quoted, total_line
from nextok.scoring import Scoring
from nextok.values import ScoredToken


def score(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A text in UTF-8, scored as it stands; - reads stdin."),
    ],
    continuation: Annotated[
        list[str],
        typer.Option(
            metavar="TEXT", help="Scores this after the file's text, instead; may be repeated."
        ),
    ] = [],  # noqa: B006 - typer's form of "none given"
    stride: options.Stride = None,
    top: options.Top = None,
    token_id: options.TokenId = [],  # noqa: B006 - typer's form of "none given"
    full_vocabulary: options.FullVocabulary = False,
    target: options.Target = options.DEFAULT_TARGET,
    timeout: options.Timeout = None,
    json: options.Json = False,
    json_events: Annotated[
        bool,
        typer.Option(
            "--json-events",
            help="Like --json, but each line is a ScoreResponse: first prompt, then tokens and "
            "each text's total, then summary.",
        ),
    ] = False,
) -> None:
    """Scores a text, each token shaded by how surprising it was.

    With --top, a line a token with its candidates. With --json, one ScoredToken a line, nothing
    else.
    """
    with (
        connecting.client(target) as client,
        client.score(
            _read(file),
            continuations=continuation,
            top_logprobs=top,
            logprob_token_ids=token_id,
            full_vocabulary=full_vocabulary,
            stride=stride,
            timeout=timeout,
        ) as scoring,
    ):
        if json_events:
            _write_events(scoring)
        elif json:
            for token in scoring:
                json_lines.write_line(token)
        else:
            _show(scoring, with_candidates=bool(top or token_id))


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode()
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeError as error:
        raise typer.BadParameter(f"{file} is not UTF-8: {error}") from None


def _write_events(scoring: Scoring) -> None:
    json_lines.write_line({"prompt": scoring.prompt})
    told = 0
    for token in scoring:
        told = _write_totals(scoring, told, token)
        json_lines.write_line({"tokens": [token]})
    _write_totals(scoring, told, None)
    json_lines.write_line({"summary": scoring.summary})


def _write_totals(scoring: Scoring, told: int, token: ScoredToken | None) -> int:
    """Writes the totals of texts that end before a token; returns how many are written now."""
    for total in scoring.totals[told:]:
        if token is not None and total.continuation == token.continuation:
            break
        json_lines.write_line({"total": total})
        told += 1
    return told


def _show(scoring: Scoring, *, with_candidates: bool) -> None:
    console = looks.console()
    text = _Text(console)
    for token in scoring:
        if with_candidates:
            console.out(_line(token), highlight=False)
            console.file.flush()
        else:
            text.write(token)
    if not with_candidates:
        text.end()
    about = looks.console(stderr=True)
    for total in scoring.totals:
        name = "" if total.continuation is None else f"continuation {total.continuation}: "
        about.print(name + total_line(total), style="dim", soft_wrap=True)


class _Text:
    """Texts on their way to a console, a line apart; characters may span tokens."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._continuation: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, token: ScoredToken) -> None:
        if token.continuation != self._continuation and token.continuation:
            self.end()
        self._continuation = token.continuation
        stream.write_shaded(
            self._console, self._decoder.decode(token.bytes), token.surprisal or 0.0
        )

    def end(self) -> None:
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._console.out(looks.clean(rest), highlight=False)


def _line(token: ScoredToken) -> str:
    start = f"{token.position:>4}  {quoted(token.token):<16}"
    if token.logprob is None or token.surprisal is None:
        return f"{start}        -"
    told = f"{percent_of_logprob(token.logprob):>8}  rank {token.rank:<5} {token.surprisal:5.2f}"
    others = "  ".join(map(stream.short, (*token.top_logprobs, *token.token_logprobs)))
    return f"{start} {told} nats   {others}".rstrip()
