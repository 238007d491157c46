"""Blocks and links of Markdown files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->", re.DOTALL)
_FENCE = re.compile(r"^```(\w*)$")
_LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)")
# What begins a block that is meant to be typed into a shell.
_PROGRAMS = re.compile(
    r"(nextok[\w-]*|make|pip|python|python3|grpcurl|docker|kubectl|npm|node|curl|serve|lm_eval"
    r"|bench/\.venv/bin/python|[A-Z_]+=\S+) "
)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        place: File and line, for people.
        language: python, shell, or empty for what is only shown.
        text: Without indentation.
        not_run: Why it is not run, where the file says so.
    """

    place: str
    language: str
    text: str
    not_run: str | None


def blocks(file: Path, root: Path) -> Iterator[Block]:
    """All blocks of a file, in order."""
    lines = file.read_text(encoding="utf-8").split("\n")
    number, not_run = 0, None
    while number < len(lines):
        line, start = lines[number], number
        if line.startswith("<!-- not run:"):
            end = next(i for i in range(number, len(lines)) if "-->" in lines[i])
            marker = _NOT_RUN.fullmatch("\n".join(lines[number : end + 1]))
            assert marker, f"{file}:{number + 1}: a marker without a reason"
            not_run = marker[1]
            number = end + 1
            continue
        if fence := _FENCE.match(line):
            number = lines.index("```", number + 1) + 1
            body, language = lines[start + 1 : number - 1], fence[1]
        elif line.startswith("    ") and _begins_code(lines, start):
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number]):
                number += 1
            body, language = [line[4:] for line in lines[start:number]], ""
        else:
            assert not (line and not_run), f"{file}:{number + 1}: a marker without a block"
            number += 1
            continue
        place = f"{file.relative_to(root)}:{start + 1}"
        yield _block(place, language, body, not_run)
        not_run = None


def _begins_code(lines: list[str], number: int) -> bool:
    """Whether an indented line is code rather than a paragraph that goes on."""
    return not number or not lines[number - 1] or lines[number - 1].endswith("-->")


def _block(place: str, language: str, body: list[str], not_run: str | None) -> Block:
    text = "\n".join(body).rstrip() + "\n"
    if language in ("bash", "sh", "console") or (not language and _PROGRAMS.match(text)):
        language = "shell"
    return Block(place, language, text, not_run)


def links(file: Path) -> Iterator[str]:
    """Where a file's links point to; code is left out."""
    text = re.sub(r"```.*?^```$", "", file.read_text(encoding="utf-8"), flags=re.S | re.M)
    text = re.sub(r"`[^`\n]*`", "", text)
    yield from _LINK.findall(text)


def anchors(file: Path) -> set[str]:
    """The names of a file's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }
