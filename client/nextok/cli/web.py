"""`nextok web`: the page and OpenAI's API, in front of a nextok server.

Knows the command's options, and in which order things start. What is served is in `nextok.web`,
which is imported only here, and only when the command runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nextok.cli import child, connecting, options
from nextok.cli.ending import BadFile, CheckFailed

if TYPE_CHECKING:
    from nextok.web.serving import Listening

DEFAULT_LISTEN = "127.0.0.1:8080"
_PANEL = "Serving"


def web(
    artifact: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Serves this artifact too, instead of asking a server. Needs the extra server.",
            show_default=False,
        ),
    ] = None,
    target: options.Target = options.DEFAULT_TARGET,
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            envvar="NEXTOK_WEB_LISTEN",
            help="Where the page is; port 0 picks a free one.",
            rich_help_panel=_PANEL,
        ),
    ] = DEFAULT_LISTEN,
    keys_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keys, one a line; only who shows one of them is answered.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Serves TLS with this chain, PEM.", rich_help_panel=_PANEL
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The chain's key, PEM.", rich_help_panel=_PANEL),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="Listens on other than loopback addresses even without TLS and keys.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
    open_browser: Annotated[
        bool,
        typer.Option("--open", help="Opens the page in a browser, if there is one."),
    ] = False,
) -> None:
    """A page to see every step in, and an API for OpenAI's clients. Needs the extra web."""
    if importlib.util.find_spec("starlette") is None or importlib.util.find_spec("uvicorn") is None:
        raise CheckFailed("the page needs more: pip install 'nextok[web]'")
    from nextok.web.exposure import read_keys
    from nextok.web.serving import Listening

    try:
        keys = read_keys(keys_file) if keys_file is not None else ()
    except (OSError, ValueError) as error:
        raise BadFile(str(error)) from None
    try:
        listening = Listening(listen, keys, tls_certificate, tls_key, insecure)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    # uvicorn lets the signal that stopped it do what it did before: the server below has to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with _server(artifact, target) as asked:
        asyncio.run(_serve(asked, listening, open_browser))


@contextlib.contextmanager
def _server(artifact: Path | None, target: str) -> Iterator[str]:
    """Where the nextok server is; one of our own if there is an artifact for it."""
    if artifact is None:
        yield target
        return
    child.require_extra("server")
    with child.serve(artifact) as own:
        yield own


async def _serve(target: str, listening: Listening, open_browser: bool) -> None:
    from nextok.web.serving import serve

    def ready(url: str) -> None:
        print(f"nextok: the page is at {url}", flush=True)
        print(f"nextok: OpenAI's API is at {url}v1", flush=True)
        if open_browser and _has_browser():
            webbrowser.open(url)

    async with connecting.async_client(target) as client:
        try:
            await serve(client, listening, ready=ready)
        except OSError as error:
            raise CheckFailed(f"cannot serve on {listening.address}: {error}") from None


def _has_browser() -> bool:
    """Whether there is a browser with a screen; one in this terminal would be in the way."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True
