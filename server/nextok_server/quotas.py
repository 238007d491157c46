"""How much one caller may have: requests at once, tokens a minute, a share of all places.

Knows: callers by name, the limits, the clock. Does not know: tokens' contents, the engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from nextok_server import access, current_call, errors
from nextok_server.handlers import Behaviour, Context, Continuation, Handler, Wrapping

# The rpcs that compute; the others cost next to nothing.
_COMPUTING = frozenset(access.SERVICE + rpc for rpc in ("Generate", "Score", "Explore", "Interact"))
# What a caller waits for is a request of its own to end, and nobody knows when it will.
_RETRY_SECONDS = 1.0


@dataclass(slots=True)
class _Account:
    """What one caller has.

    Attributes:
        requests: That run or wait.
        credit: Tokens left, as of `at`; below 0 where requests took more than was left.
    """

    requests: int
    credit: float
    at: float


class Quotas(grpc.aio.ServerInterceptor):
    """Refuses what is more than one caller may have, at once and with a time to come back.

    Tokens are counted when a request ends, since nobody knows before how many it takes: a caller
    with any left may start one, and what it takes beyond is waited for afterwards.

    Args:
        requests: At the same time, of one caller; infinity: any number.
        tokens_per_minute: Of one caller; also how many may be saved up. 0: any number.
        clock: Seconds.
    """

    def __init__(
        self,
        requests: float,
        tokens_per_minute: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = requests
        self._rate = tokens_per_minute / 60
        self._capacity = float(tokens_per_minute)
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._wrapping = Wrapping(lambda behaviour, _method: self._limited(behaviour))

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Puts the limits before those rpcs that compute."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method not in _COMPUTING:
            return handler
        return self._wrapping(handler, handler_call_details.method)

    def _limited(self, behaviour: Behaviour) -> Behaviour:
        async def run(request: Any, context: Context) -> Any:
            account = self._enter(current_call.caller.get())
            left = False

            def leave(_context: object = None) -> None:
                nonlocal left
                account.requests -= not left
                left = True

            # Besides `finally`: a handler that is torn down may not get to it in time.
            context.add_done_callback(leave)  # type: ignore[arg-type] # typed as a class
            current_call.spending.set(lambda tokens: self._spend(account, tokens))
            try:
                return await behaviour(request, context)
            finally:
                leave()

        return run

    def _enter(self, name: str) -> _Account:
        """Counts a request of a caller's.

        Raises:
            OverLimit: It may have no more.
        """
        account = self._accounts.get(name)
        if account is None:
            self._forget_idle()
            account = _Account(0, self._capacity, self._clock())
        self._earn(account)
        if account.requests >= self._most:
            raise errors.OverLimit(
                f"{name} has {account.requests} requests that run or wait, the most that one "
                "caller may have",
                _RETRY_SECONDS,
            )
        if self._rate and account.credit <= 0:
            raise errors.OverLimit(
                f"{name} has used up its {self._capacity:.0f} tokens a minute",
                (1 - account.credit) / self._rate,
            )
        self._accounts[name] = account
        account.requests += 1
        return account

    def _spend(self, account: _Account, tokens: int) -> float:
        """Takes tokens off what a caller has; returns the seconds until it has any again."""
        self._earn(account)
        account.credit -= tokens
        return max(0.0, -account.credit / self._rate) if self._rate else 0.0

    def _earn(self, account: _Account) -> None:
        now = self._clock()
        earned = account.credit + (now - account.at) * self._rate
        account.credit, account.at = min(self._capacity, earned), now

    def _forget_idle(self) -> None:
        """Callers come and go; those without requests and debts need not be remembered."""
        for name, account in tuple(self._accounts.items()):
            self._earn(account)
            if not account.requests and account.credit >= self._capacity:
                del self._accounts[name]
