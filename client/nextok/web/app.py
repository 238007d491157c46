"""The web application: which route goes where, and what guards them all.

Knows Starlette. Does not know how it is served.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from nextok.async_client import AsyncClient
from nextok.web import page
from nextok.web.answers import on_fault, on_refusal, refused
from nextok.web.guards import Doorkeeper, SafeHeaders
from nextok.web.openai import routes as openai
from nextok.web.refusals import Refusal
from nextok.web.throughput import Throughput

MAX_BODY_BYTES: Final = 1 << 20
STATIC: Final = Path(__file__).parent / "static"


def create_app(
    client: AsyncClient,
    *,
    keys: tuple[str, ...] = (),
    loopback: bool = True,
    max_body: int = MAX_BODY_BYTES,
) -> Starlette:
    """Builds the application.

    Args:
        client: Of the nextok server that is asked; the caller closes it.
        keys: Of those who may ask; none: everyone who reaches it.
        loopback: Whether only this machine reaches it.
        max_body: Most bytes of a request's body.
    """
    throughput = Throughput()
    return Starlette(
        routes=[
            Mount(openai.PREFIX, routes=openai.routes(client, throughput)),
            Mount(page.PREFIX, routes=page.routes(client, throughput)),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ],
        middleware=[
            Middleware(SafeHeaders),
            Middleware(Doorkeeper, keys=keys, loopback=loopback, max_body=max_body),
        ],
        exception_handlers={
            Refusal: on_refusal,
            HTTPException: _on_http_error,
            Exception: on_fault,
        },
    )


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Unknown paths and methods, in the shape of every other refusal."""
    assert isinstance(error, HTTPException)  # it is registered for these
    message = f"{request.method} {request.url.path}: {error.detail}"
    return refused(Refusal(error.status_code, message, headers=dict(error.headers or {})))
