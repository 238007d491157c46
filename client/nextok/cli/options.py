"""The arguments and options of the commands, spelled once.

Knows typer, and how text on the command line becomes values. Ranges are the server's to check.
"""

from __future__ import annotations

import sys
from typing import Annotated, TypeAlias

import typer

DEFAULT_TARGET = "localhost:50051"
_MAX_UINT32 = 2**32 - 1

_SAMPLING = "Sampling"
_ENDING = "Ending"


def _uint32(value: str) -> int:
    return _unsigned(value, _MAX_UINT32)


def _uint64(value: str) -> int:
    return _unsigned(value, 2**64 - 1)


def _unsigned(value: str, maximum: int) -> int:
    if not 0 <= (number := int(value)) <= maximum:
        raise ValueError(f"{value} is not from 0 to {maximum}")
    return number


def read_text(text: str) -> str:
    """Returns the text, or what stands on stdin where it is "-".

    As in a shell's $(...), one line end at the end of stdin is not part of the text.

    Raises:
        typer.BadParameter: It is not UTF-8.
    """
    try:
        if text == "-":
            return sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
        text.encode()
    except UnicodeError as error:
        raise typer.BadParameter(f"the text is not UTF-8: {error}") from None
    return text


def read_logit_bias(entries: list[str]) -> dict[int, float]:
    """Reads entries of the form ID=BIAS.

    Raises:
        typer.BadParameter: An entry has another form, or an id is no uint32.
    """
    biases = {}
    for entry in entries:
        token_id, _, bias = entry.partition("=")
        try:
            biases[_uint32(token_id)] = float(bias)
        except ValueError as error:
            raise typer.BadParameter(f"{entry!r} is not ID=BIAS: {error}") from None
    return biases


Text: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="TEXT",
        help="The text; - reads stdin, less one line end at its end.",
        show_default=False,
    ),
]
Ids: TypeAlias = Annotated[
    list[int],
    typer.Argument(metavar="IDS...", help="Token ids.", parser=_uint32, show_default=False),
]
Target: TypeAlias = Annotated[
    str, typer.Option("--target", metavar="HOST:PORT", envvar="NEXTOK_TARGET", help="The server.")
]
Timeout: TypeAlias = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", help="Longest time for the call.")
]
Resume: TypeAlias = Annotated[
    int,
    typer.Option(
        parser=_uint32,
        metavar="N",
        help="Where the connection or the server is lost, how many attempts in a row to go on "
        "with the stream may bring nothing new; 0 gives up at once.",
    ),
]
Json: TypeAlias = Annotated[
    bool,
    typer.Option("--json", help="One JSON object a line, with the fields' names on the wire."),
]

Temperature: TypeAlias = Annotated[
    float | None,
    typer.Option(metavar="X", help="0 takes the most likely token.", rich_help_panel=_SAMPLING),
]
TopK: TypeAlias = Annotated[
    int | None,
    typer.Option(
        parser=_uint32,
        metavar="N",
        help="Keeps the k most likely tokens; 0 keeps all.",
        rich_help_panel=_SAMPLING,
    ),
]
TopP: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Keeps the fewest tokens whose probabilities reach this sum.",
        rich_help_panel=_SAMPLING,
    ),
]
MinP: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Keeps tokens with this fraction of the likeliest's probability.",
        rich_help_panel=_SAMPLING,
    ),
]
RepetitionPenalty: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Divides the logits of tokens already used.", rich_help_panel=_SAMPLING
    ),
]
PresencePenalty: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Taken off the logit of each token generated before.",
        rich_help_panel=_SAMPLING,
    ),
]
FrequencyPenalty: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Taken off once for each time that it was.", rich_help_panel=_SAMPLING
    ),
]
LogitBias: TypeAlias = Annotated[
    list[str],
    typer.Option(
        metavar="ID=BIAS",
        help="Added to a token's logit; may be repeated.",
        rich_help_panel=_SAMPLING,
    ),
]
Seed: TypeAlias = Annotated[
    int | None,
    typer.Option(parser=_uint64, metavar="N", help="Of the draws.", rich_help_panel=_SAMPLING),
]
N: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--n",
        parser=_uint32,
        metavar="N",
        help="How many completions. Number i, from 0, is what --seed plus i gives alone.",
    ),
]
MaxTokens: TypeAlias = Annotated[
    int | None,
    typer.Option(parser=_uint32, metavar="N", help="Most tokens.", rich_help_panel=_ENDING),
]
MinTokens: TypeAlias = Annotated[
    int | None,
    typer.Option(
        parser=_uint32,
        metavar="N",
        help="Nothing ends the text before this many.",
        rich_help_panel=_ENDING,
    ),
]
Stop: TypeAlias = Annotated[
    list[str],
    typer.Option(metavar="TEXT", help="Ends the text; may be repeated.", rich_help_panel=_ENDING),
]
StopTokenId: TypeAlias = Annotated[
    list[int],
    typer.Option(
        metavar="ID",
        parser=_uint32,
        help="Token that ends the text; may be repeated.",
        rich_help_panel=_ENDING,
    ),
]
IgnoreEos: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--ignore-eos",
        help="Goes on past the model's own end-of-text token.",
        rich_help_panel=_ENDING,
    ),
]
Top: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--top", parser=_uint32, metavar="N", help="How many of the likeliest tokens to list."
    ),
]
TokenId: TypeAlias = Annotated[
    list[int],
    typer.Option(
        metavar="ID",
        parser=_uint32,
        help="Token to report whatever its rank; may be repeated.",
    ),
]
Drafts: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--drafts/--no-drafts",
        help="Whether tokens may be drafted, several checked at a time. Default: as the server "
        "is set.",
    ),
]
Depth: TypeAlias = Annotated[
    int | None,
    typer.Option(parser=_uint32, metavar="N", help="Tokens from the text to the deepest node."),
]
Width: TypeAlias = Annotated[
    int | None, typer.Option(parser=_uint32, metavar="N", help="Most children of a node.")
]
MinProbability: TypeAlias = Annotated[
    float | None,
    typer.Option(help="Leaves out nodes that are less likely, as measured from the text."),
]
MaxNodes: TypeAlias = Annotated[
    int | None, typer.Option(parser=_uint32, metavar="N", help="Most nodes in all.")
]
MaxSeconds: TypeAlias = Annotated[
    float | None, typer.Option(help="Ends the tree after this time with what there is.")
]
Stride: TypeAlias = Annotated[
    int | None,
    typer.Option(
        parser=_uint32,
        metavar="N",
        help="Tokens that a window scores where the text is longer than the context.",
    ),
]
FullVocabulary: TypeAlias = Annotated[
    bool,
    typer.Option("--full-vocabulary", help="The log probability of every token (for --json)."),
]
