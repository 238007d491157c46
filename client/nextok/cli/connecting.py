"""The options that say how to connect, the same for every command that does.

Knows typer, and how a client is made. Does not know what the commands do.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from nextok.async_client import AsyncClient
from nextok.cli.ending import BadFile
from nextok.client import Client
from nextok.security import TLS, Connection, plan_connection

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Security:
    """How commands connect; see Client."""

    tls: TLS | bool
    token: str | None = field(repr=False)
    token_in_clear: bool


_PANEL = "Connecting"
_TOKEN_VARIABLE = "NEXTOK_TOKEN"


def _options(
    tls: Annotated[
        bool, typer.Option("--tls", help="Connects with TLS.", rich_help_panel=_PANEL)
    ] = False,
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="NEXTOK_CA",
            help="Authorities that the server's certificate is checked with, PEM; means --tls.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="NEXTOK_CERT",
            help="The client's own certificate, PEM; means --tls.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="NEXTOK_KEY",
            help="The certificate's key, PEM.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"File with the token to show. Default: that of {_TOKEN_VARIABLE}, if set.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    token_in_clear: Annotated[
        bool,
        typer.Option(
            "--token-in-clear",
            help="Sends the token to other machines even without TLS.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
) -> Security:
    """Reads what the options name."""
    try:
        with_tls = tls or ca is not None or cert is not None or key is not None
        found = TLS.from_files(ca=ca, certificate=cert, key=key) if with_tls else False
        token = os.environ.get(_TOKEN_VARIABLE) or None
        if token_file is not None:
            token = token_file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        # What was read may be a token, and a decoding error would show it.
        shown = f"{token_file} is not ASCII" if isinstance(error, UnicodeError) else str(error)
        raise BadFile(shown) from None
    return Security(found, token, token_in_clear)


_current: ContextVar[Security] = ContextVar("security")


def connects(command: Callable[P, None]) -> Callable[P, None]:
    """Gives a command the options; `client` and `connection` then do as they say."""
    own = inspect.signature(_options, eval_str=True).parameters

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        given = {name: kwargs.pop(name) for name in own if name in kwargs}
        _current.set(_options(**given))  # type: ignore[arg-type] # typer made them from `own`
        command(*args, **kwargs)

    # typer reads the signature; it cannot resolve texts that stand for types of two modules.
    signature = inspect.signature(command, eval_str=True)
    both = (*signature.parameters.values(), *own.values())
    run.__signature__ = signature.replace(parameters=both)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in both}
    return run


def client(target: str) -> Client:
    """A client that connects as the options say.

    Raises:
        typer.BadParameter: They do not allow it.
    """
    said = _current.get()
    with _as_usage():
        return Client(target, tls=said.tls, token=said.token, token_in_clear=said.token_in_clear)


def async_client(target: str) -> AsyncClient:
    """The same for an event loop, in which it has to be called.

    Raises:
        typer.BadParameter: They do not allow it.
    """
    said = _current.get()
    with _as_usage():
        return AsyncClient(
            target, tls=said.tls, token=said.token, token_in_clear=said.token_in_clear
        )


def connection(target: str) -> Connection:
    """The same for what opens channels of its own.

    Raises:
        typer.BadParameter: They do not allow it.
    """
    said = _current.get()
    with _as_usage():
        return plan_connection(
            target, tls=said.tls, token=said.token, token_in_clear=said.token_in_clear
        )


@contextlib.contextmanager
def _as_usage() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
