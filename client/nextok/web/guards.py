"""What every request and answer goes through: who may ask, how much, and what a page may do.

Knows HTTP's headers. Does not know the routes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextok.web.answers import refused
from nextok.web.exposure import is_loopback
from nextok.web.refusals import Refusal

# Everything from this address, nothing inline, nothing embedded, nobody's frame.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

# What is read of a refused request's body after the answer. Many clients look for an answer only
# once they have sent everything, and a connection closed before that is all that they see.
_DISCARD_BODIES: Final = 16  # times the limit of a body
_DISCARD_SECONDS: Final = 2.0


class SafeHeaders:
    """Tells browsers what a page from here may do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, as ASGI asks for it."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)


class Doorkeeper:
    """Refuses requests of strangers, of other sites' pages, and those that are too large.

    Args:
        app: What answers the others.
        keys: One of them has to be shown; none: nobody is asked.
        loopback: Whether only this machine is served. Then only its own names for itself are
            taken, so that no other site can point a name of its own here.
        max_body: Bytes.
    """

    def __init__(
        self, app: ASGIApp, *, keys: Iterable[str] = (), loopback: bool, max_body: int
    ) -> None:
        self._app = app
        self._keys = [_hash(key) for key in keys]
        self._loopback = loopback
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, as ASGI asks for it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            self._check_key(headers)
            if scope["method"] not in ("GET", "HEAD"):
                _check_content_type(headers)
            body = await self._read(headers, receive)
        except Refusal as refusal:
            await refused(refusal)(scope, receive, self._discarding(receive, send))
            return
        await self._app(scope, _replaying(body, receive), send)

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if self._loopback and not is_loopback(name):
            raise Refusal(421, f"{host!r} is not a name of this server, which is for its machine")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Refusal(403, f"pages of {origin} may not use this server")

    def _check_key(self, headers: Headers) -> None:
        if not self._keys:
            return
        shown = _hash(_shown_key(headers.get("authorization", "")))
        # Every key is compared, each in constant time.
        if sum(hmac.compare_digest(shown, key) for key in self._keys) == 0:
            raise Refusal(
                401,
                "a key is needed, as a bearer token or as a password",
                code="invalid_api_key",
                headers={"WWW-Authenticate": 'Basic realm="nextok", charset="UTF-8"'},
            )

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body, which is read before anything looks into it."""
        said = headers.get("content-length", "")
        if said.isdecimal() and int(said) > self._max_body:
            raise self._too_large()
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self._max_body:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    def _discarding(self, receive: Receive, send: Send) -> Send:
        """Sends, and before the answer is ended reads what the client still sends."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.body":
                await send({**message, "more_body": True})
                await self._discard(receive)
                message = {"type": "http.response.body"}
            await send(message)

        return sending

    async def _discard(self, receive: Receive) -> None:
        left = _DISCARD_BODIES * self._max_body
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            pass

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body is too large, the limit is {self._max_body} bytes")


def _check_content_type(headers: Headers) -> None:
    # Browsers send no other site's JSON without asking first, and the answer is no.
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, f"the body is {kind or 'of no type'}, expected application/json")


def _shown_key(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _replaying(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, then what comes after it."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
