"""`nextok demo`: the whole path, from a checkpoint to probabilities.

Knows the steps and what has to come out of them. How the other programs are started is in
`child`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nextok.cli import child, looks, stream
from nextok.cli.ending import CheckFailed
from nextok.client import Client
from nextok.formatting import percent_of_logprob, quoted
from nextok.tokens import TextTokens

SENTENCE = "I love Generative AI"
SENTENCE_IDS = (40, 1842, 2980, 876, 9552)  # in GPT-2's vocabulary, for ever
_STORY = "Once upon a time"
_APPENDED = 6
_TOP = 10
_CALL_SECONDS = 60.0


def demo(
    artifact: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Serves this one, and exports nothing.", show_default=False
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, int8 or int4.")] = "int8",
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Writes the artifact here, and keeps it.", show_default=False
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Length of the last text.")] = 60,
) -> None:
    """The whole path on the bundled checkpoint: export, serve, and look at probabilities.

    Needs the extras export and server in the same environment. Exits with 0 only if every
    step worked and every check held.
    """
    console = looks.console()
    child.require_extra("server")
    with _artifact(console, artifact, precision, keep) as folder:
        _title(console, f"Serve {folder}")
        with child.serve(folder) as target:
            console.out(f"listening on {target}", highlight=False)
            with Client(target) as client:
                _show_tokens(client, console)
                _show_next_token(client, console)
                _append_one_by_one(client, console)
                _generate(client, console, max_tokens)
    console.out("\nserver stopped, all checks held", highlight=False)


@contextmanager
def _artifact(
    console: Console, artifact: Path | None, precision: str, keep: Path | None
) -> Iterator[Path]:
    if artifact is not None:
        yield artifact
        return
    child.require_extra("export")
    _title(console, f"Export the bundled checkpoint, {precision}")
    if keep is not None:
        child.export("demo", keep, precision)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="nextok-demo-") as folder:
        out = Path(folder) / "artifact"
        child.export("demo", out, precision)
        yield out


def _show_tokens(client: Client, console: Console) -> None:
    _title(console, f"Tokens of {SENTENCE!r}")
    tokens = client.tokenize(SENTENCE, timeout=_CALL_SECONDS)
    console.print(looks.token_table(tokens))
    check_tokens(tokens)
    text = client.detokenize(tokens.ids, timeout=_CALL_SECONDS).text
    if text != SENTENCE:
        raise CheckFailed(f"the tokens became {text!r}")


def check_tokens(tokens: TextTokens) -> None:
    """Makes sure that the sentence has the tokens that GPT-2 gives it.

    Raises:
        CheckFailed: It has others.
    """
    if tokens.ids != SENTENCE_IDS:
        raise CheckFailed(f"the tokens are {tokens.ids}, and should be {SENTENCE_IDS}")


def _show_next_token(client: Client, console: Console) -> None:
    _title(console, f"The {_TOP} most likely tokens after it")
    distribution = client.next_token(SENTENCE, top_logprobs=_TOP, timeout=_CALL_SECONDS)
    console.print(looks.candidate_table(distribution.top_logprobs))
    console.out(f"all others together {distribution.tail_mass:.2%}", highlight=False)
    logprobs = [candidate.logprob for candidate in distribution.top_logprobs]
    if len(logprobs) != _TOP or logprobs != sorted(logprobs, reverse=True):
        raise CheckFailed(f"these are not {_TOP} log probabilities in order: {logprobs}")
    if abs(distribution.top_mass + distribution.tail_mass - 1) > 1e-3:
        raise CheckFailed("the probabilities do not add up to 1")


def _append_one_by_one(client: Client, console: Console) -> None:
    _title(console, "The most likely token appended, again and again")
    ids = list(SENTENCE_IDS)
    for _ in range(_APPENDED):
        best = client.next_token(ids, top_logprobs=1, timeout=_CALL_SECONDS).top_logprobs[0]
        ids.append(best.id)
        text = client.detokenize(ids, timeout=_CALL_SECONDS).text
        chosen = f"{quoted(best.token):<14} {percent_of_logprob(best.logprob):>7}"
        console.out(f"{chosen}   {quoted(text)}", highlight=False)


def _generate(client: Client, console: Console, max_tokens: int) -> None:
    _title(console, f"A whole text from {_STORY!r}, shaded by surprisal")
    with client.generate(
        _STORY, temperature=0.8, top_p=0.95, seed=1, max_tokens=max_tokens, timeout=_CALL_SECONDS
    ) as generation:
        console.out(_STORY, end="", highlight=False)
        stream.show(generation)
    if generation.finish is None or not generation.text:
        raise CheckFailed("the text has no end, or nothing in it")


def _title(console: Console, text: str) -> None:
    console.print()
    console.rule(looks.clean(text), align="left")
    console.file.flush()  # a program that is started next writes to the same place
