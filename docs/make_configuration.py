"""Writes docs/configuration.md from the server's settings: `make docs-configuration`.

Knows: how settings describe themselves. Does not know: what they do.
"""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import AfterValidator
from pydantic.fields import FieldInfo

from nextok_server.config import ENVIRONMENT_PREFIX, Config

PAGE = Path(__file__).with_name("configuration.md")

HEAD = """\
# nextok-server's settings

This page is made from the settings themselves, by `make docs-configuration`.

## Synopsis

```text
nextok-server ARTIFACT [--NAME VALUE]... [--config FILE] [--check | --show-config]
nextok-server token NAME [--scope SCOPE]... [--days N]
```

## Where a value comes from

A flag comes first, then the environment variable, then the TOML file given by `--config`, then the
default. `--show-config` prints every setting with its value and where that came from. A setting
that is unknown or out of range ends the program with its name, value and range. Whether something
is so is said by `--NAME` and `--no-NAME`, and elsewhere by `true` and `false`.

    # nextok.toml
    artifact = "gpt2-int8"
    listen = "127.0.0.1:50051"
    slots = 16

## Commands

`--check` proves the artifact's files, loads them and computes one token, says what it found, and
stops. `nextok-server token` makes a token; see [security.md](security.md).

## Exit status

| code | meaning |
|---|---|
| 0 | stopped as asked, or checked and found good |
| 1 | the artifact or an address cannot be used |
| 2 | wrong settings |

## Signals

SIGTERM and SIGINT end the server in order: health says NOT_SERVING; `shutdown_delay` later new
requests are refused; streams that run get `drain_seconds`; then it exits with 0.

## Settings
"""


def page() -> str:
    """The whole page."""
    entries = [_entry(name, field) for name, field in Config.model_fields.items()]
    return HEAD + "".join(entries)


def _entry(name: str, field: FieldInfo) -> str:
    flag = "ARTIFACT" if name == "artifact" else "--" + name.replace("_", "-")
    kind = _kind(field)
    facts = [f"`{flag}`", f"`{ENVIRONMENT_PREFIX}{name.upper()}`", kind, _default(field)]
    return f"\n### {name}\n\n{field.description}\n\n{' · '.join(facts)}\n"


def _kind(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    if get_origin(annotation) in (typing.Union, types.UnionType):
        (annotation,) = (arg for arg in get_args(annotation) if arg is not type(None))
    metadata = list(field.metadata)
    if get_origin(annotation) is typing.Annotated:
        annotation, *more = get_args(annotation)
        metadata += more
    if any(isinstance(entry, AfterValidator) for entry in metadata):
        return "`HOST:PORT`"
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in get_args(annotation))
    names = {int: "whole number", float: "number", bool: "yes or no", str: "text", Path: "path"}
    return names[annotation] + _range(metadata)


def _range(metadata: list[Any]) -> str:
    words = {Ge: "from {ge}", Gt: "over {gt}", Le: "to {le}", Lt: "under {lt}"}
    words[MultipleOf] = "a multiple of {multiple_of}"
    said = [
        word.format(**{name: f"{getattr(bound, name):,}" for name in bound.__dataclass_fields__})
        for bound in metadata
        for kind, word in words.items()
        if isinstance(bound, kind)
    ]
    return ", " + " ".join(said) if said else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "has to be given"
    if field.default_factory is not None:
        return "default: this machine's"
    if field.default is None:
        return "default: none"
    if isinstance(field.default, bool):
        return "default: yes" if field.default else "default: no"
    return f"default: `{field.default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
