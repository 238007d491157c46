"""Who calls, and whether they may; runs once a call, before the request is read.

Knows: tokens, TLS peers, which rpc belongs to which scope. Does not know: what an rpc does.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import grpc
import structlog

from nextok_server import current_call, errors
from nextok_server.handlers import (
    Behaviour,
    Context,
    Continuation,
    Handler,
    Wrapping,
    replaced,
    wrapped,
)
from nextok_server.reloading import Reloading
from nextok_server.tokens_file import Entry, find

_BEARER = "bearer "

SERVICE = "/nextok.v1.TextGenerationService/"
# Any token that is good for something may ask for health.
_ANY = ""
_SCOPE_OF = {
    **{SERVICE + name: "model" for name in ("GetModel", "Tokenize", "Detokenize")},
    **{SERVICE + name: "generate" for name in ("Generate", "Explore", "Interact")},
    SERVICE + "Score": "score",
    "/grpc.health.v1.Health/Check": _ANY,
    "/grpc.health.v1.Health/Watch": _ANY,
    "/grpc.health.v1.Health/List": _ANY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": "model",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": "model",
}
METHODS = frozenset(_SCOPE_OF)


class Access(grpc.aio.ServerInterceptor):
    """Lets through who may, and notes who it is.

    Args:
        tokens: Those that are known; None: none are asked for.
        now: The time, with its zone.
    """

    def __init__(
        self,
        tokens: Reloading[tuple[Entry, ...]] | None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._tokens = tokens
        self._now = now
        self._unnamed = Wrapping(lambda behaviour, _method: _named(behaviour, None))

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Gives the rpc's handler to who may call it, and one that refuses to others."""
        details = handler_call_details
        handler = await continuation(details)
        name = None
        if self._tokens is not None:
            try:
                name = self._check(self._tokens.current(), details)
            except errors.ServerError as error:
                return replaced(handler, _refusing(error))
        if handler is None or not details.method.startswith(SERVICE):
            return handler
        if name is None:
            return self._unnamed(handler, details.method)
        return wrapped(handler, lambda behaviour: _named(behaviour, name))

    def _check(self, entries: tuple[Entry, ...], details: grpc.HandlerCallDetails) -> str:
        """Returns whose the call's token is.

        Raises:
            Unauthenticated: There is none, or none that is known and still good.
            Forbidden: It is not good for this rpc.
        """
        given = [value for key, value in details.invocation_metadata if key == "authorization"]
        if len(given) != 1:
            raise errors.Unauthenticated(
                f"the metadata has {len(given)} times authorization, expected once: Bearer TOKEN"
            )
        (value,) = given
        if not isinstance(value, str) or not value.lower().startswith(_BEARER):
            raise errors.Unauthenticated("authorization is not of the form: Bearer TOKEN")
        entry = find(value[len(_BEARER) :].strip(), entries)
        if entry is None:
            raise errors.Unauthenticated("the token is unknown")
        if entry.expires is not None and entry.expires <= self._now():
            raise errors.Unauthenticated(f"the token of {entry.name} has expired")
        scope = _SCOPE_OF.get(details.method)
        if scope is None:
            raise errors.Forbidden(f"{details.method} is open to no token")
        if scope is not _ANY and scope not in entry.scopes:
            raise errors.Forbidden(f"the token of {entry.name} has no scope {scope!r}")
        return entry.name


def _refusing(error: errors.ServerError) -> Behaviour:
    async def refuse(_request: Any, _context: Context) -> None:
        raise error

    return refuse


def _named(behaviour: Behaviour, token_name: str | None) -> Behaviour:
    async def run(request: Any, context: Context) -> Any:
        name = token_name or _certificate_name(context)
        if name is None:
            current_call.party.set(context.peer())
            current_call.caller.set(context.peer().rpartition(":")[0])
            return await behaviour(request, context)
        current_call.party.set(name)
        current_call.caller.set(name)
        structlog.contextvars.bind_contextvars(caller=name)
        return await behaviour(request, context)

    return run


def _certificate_name(context: Context) -> str | None:
    """The name in the client's certificate, if it came with one."""
    found = context.auth_context()
    for key in ("x509_subject_alternative_name", "x509_common_name"):
        for name in found.get(key, ()):
            return bytes(name).decode(errors="replace")
    return None
