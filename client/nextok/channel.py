"""Settings of the connection to a server, the same for both clients.

Knows gRPC's channel arguments. Does not know what is called over the channel.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final

ChannelOptions = Sequence[tuple[str, str | int]]

# A step with the full vocabulary takes 0.2 MB, and a prompt's log probabilities with it as much
# a token; the server sends several in one message when the reader lags.
_MAX_RECEIVE_BYTES: Final = 16 * 1024 * 1024

# A server counts pings that come more often than every 5 minutes, its default, and closes the
# connection after two of them (GOAWAY, too_many_pings). Staying above that needs no agreement.
_KEEPALIVE_MS: Final = 6 * 60 * 1000
# With keepalive on, data that is not acknowledged for this long ends the connection, pings or
# not (TCP_USER_TIMEOUT): a server that vanished is noticed when something is sent to it.
_KEEPALIVE_TIMEOUT_MS: Final = 20 * 1000

# Where the target names several servers, all are used in turn: one that is stopping answers, on
# a connection that is fine, that it takes nothing new, and the next attempt goes elsewhere.
_POLICY: Final = "round_robin"
# gRPC fails calls at once until it tries to connect again, and its own first wait of a second is
# longer than the pauses before a broken stream is resumed.
_FIRST_RECONNECT_MS: Final = 100

# Calls that only read are made again where a server cannot be reached or goes away (as it stops,
# it may cancel a call that has just arrived rather than refuse it, grpc#37239): three times
# at most, and not while more than a tenth of all calls need it, so that a server in trouble gets
# no more of it. Streams are not among them: `attempts` goes on with those, behind what came.
_RETRIED: Final = ("GetModel", "Tokenize", "Detokenize")
_SERVICE_CONFIG: Final = json.dumps(
    {
        "methodConfig": [
            {
                "name": [
                    {"service": "nextok.v1.TextGenerationService", "method": method}
                    for method in _RETRIED
                ],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
)


def channel_options(options: ChannelOptions = ()) -> list[tuple[str, str | int]]:
    """Returns the channel's arguments; the caller's own come last, and win.

    Args:
        options: More gRPC channel arguments, or other values for those set here.
    """
    settings: dict[str, str | int] = {
        "grpc.primary_user_agent": f"nextok-python/{version('nextok')}",
        "grpc.max_receive_message_length": _MAX_RECEIVE_BYTES,
        "grpc.keepalive_time_ms": _KEEPALIVE_MS,
        "grpc.keepalive_timeout_ms": _KEEPALIVE_TIMEOUT_MS,
        "grpc.keepalive_permit_without_calls": 0,
        "grpc.lb_policy_name": _POLICY,
        "grpc.service_config": _SERVICE_CONFIG,
        "grpc.initial_reconnect_backoff_ms": _FIRST_RECONNECT_MS,
    }
    settings.update(options)
    return list(settings.items())
