"""The options that give a completion a form, and how they are read.

Knows typer, and the files that the options name. What a form may be is the server's to check.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from nextok.cli.ending import BadFile

_FORM = "Form"

JsonSchema: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|TEXT",
        help="The text is JSON of this schema; what begins with { is the schema itself.",
        rich_help_panel=_FORM,
    ),
]
Regex: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="The text matches it as a whole.", rich_help_panel=_FORM),
]
Grammar: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The text follows it; llguidance's Lark.", rich_help_panel=_FORM
    ),
]
Choice: TypeAlias = Annotated[
    list[str],
    typer.Option(
        metavar="TEXT", help="The text is it, or another one of them.", rich_help_panel=_FORM
    ),
]


def read_form(
    json_schema: str | None, regex: str | None, grammar: Path | None, choices: list[str]
) -> dict[str, Any]:
    """Returns what `generate` takes of these, with the files that they name read.

    Raises:
        typer.BadParameter: More than one is given.
        BadFile: A file cannot be read.
    """
    given = {
        "--json-schema": json_schema,
        "--regex": regex,
        "--grammar": grammar,
        "--choice": choices or None,
    }
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise typer.BadParameter(f"{', '.join(names)}: only one of them can be given")
    if json_schema is not None and not json_schema.lstrip().startswith("{"):
        json_schema = _read_file(Path(json_schema))
    return {
        "json_schema": json_schema,
        "regex": regex,
        "grammar": None if grammar is None else _read_file(grammar),
        "choices": choices or None,
    }


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise BadFile(f"{path}: {error}") from None
