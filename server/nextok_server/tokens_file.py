"""The file of tokens: who may do what, and until when. Tokens themselves are not in it.

Knows: the file's form, hashes, how a token is made. Does not know: gRPC.

A TOML file with one table for each token:

    [[tokens]]
    name = "alice"
    sha256 = "..."                   # of the token
    scopes = ["model", "generate"]
    expires = 2027-01-31T00:00:00Z   # left out: never

Tokens are 256 random bits, so a plain SHA-256 hides them: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

SCOPES = ("model", "generate", "score")
_PREFIX = "nextok_"
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYS = {"name", "sha256", "scopes", "expires"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one token.

    Attributes:
        name: Whose it is. Several tokens may have one name, and then share its limits.
        sha256: Of the token, in lower-case hexadecimal digits.
        scopes: Groups of rpcs that it is good for.
        expires: From when on it is not; None: never.
    """

    name: str
    sha256: str
    scopes: frozenset[str]
    expires: datetime | None

    def __post_init__(self) -> None:
        """Checks what a person may have written.

        Raises:
            ValueError: Names the field, its value and what it may be.
        """
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"name is {self.name!r}, expected 1 to 64 of A-Z a-z 0-9 . _ @ -")
        if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256):
            raise ValueError("sha256 is not 64 digits of 0-9 a-f")
        if not self.scopes or not self.scopes <= set(SCOPES):
            given = sorted(map(str, self.scopes))
            raise ValueError(f"scopes is {given}, expected some of {', '.join(SCOPES)}")
        if self.expires is not None and (
            not isinstance(self.expires, datetime) or self.expires.tzinfo is None
        ):
            raise ValueError(f"expires is {self.expires!s}, expected a date, a time and a zone")

    def toml(self) -> str:
        """The entry as it stands in the file."""
        scopes = ", ".join(f'"{scope}"' for scope in SCOPES if scope in self.scopes)
        lines = ["[[tokens]]", f'name = "{self.name}"', f'sha256 = "{self.sha256}"']
        lines.append(f"scopes = [{scopes}]")
        if self.expires is not None:
            lines.append(f"expires = {self.expires.isoformat()}")
        return "\n".join(lines) + "\n"


def read_tokens(path: Path) -> tuple[Entry, ...]:
    """Reads the file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not of this form; the message names the entry, never a hash.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    tables = content.pop("tokens", [])
    if content:
        raise ValueError(f"{path}: {', '.join(content)} is unknown, expected [[tokens]]")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{path}: tokens is not a list of tables, [[tokens]]")
    return tuple(_read_entry(path, number, table) for number, table in enumerate(tables, 1))


def _read_entry(path: Path, number: int, table: dict[str, Any]) -> Entry:
    where = f"{path}: token {number}"
    if unknown := table.keys() - _KEYS:
        raise ValueError(f"{where}: {', '.join(sorted(unknown))} is unknown")
    if missing := _KEYS - {"expires"} - table.keys():
        raise ValueError(f"{where}: {', '.join(sorted(missing))} is missing")
    scopes = table["scopes"]
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise ValueError(f"{where}: scopes is {scopes!r}, expected a list of texts")
    try:
        return Entry(table["name"], table["sha256"], frozenset(scopes), table.get("expires"))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def find(token: str, entries: Collection[Entry]) -> Entry | None:
    """The entry of a token. How long it takes does not depend on which one, or how alike."""
    given = _digest(token)
    found = None
    for entry in entries:
        if hmac.compare_digest(given, entry.sha256):
            found = entry
    return found


def make_token(name: str, scopes: Collection[str], expires: datetime | None) -> tuple[str, Entry]:
    """A new token, and what to put in the file for it.

    Raises:
        ValueError: The name or a scope is not one.
    """
    token = _PREFIX + secrets.token_urlsafe(32)
    return token, Entry(name, _digest(token), frozenset(scopes), expires)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
