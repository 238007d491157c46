"""Which requests are best answered by the same replica: those whose prompts begin alike.

Knows: where a request has its prompt. Does not know: tokens of texts, replicas.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from nextok.v1 import text_generation_pb2 as pb
from nextok.v1 import types_pb2 as types

# The beginning that counts: a chunk's tokens, or about as much text. Requests that share a longer
# prefix share this one too.
_TOKENS: Final = 64
_BYTES: Final = 256

_REQUESTS: Final[dict[str, type[Message]]] = {
    "Generate": pb.GenerateRequest,
    "Score": pb.ScoreRequest,
    "Explore": pb.ExploreRequest,
}


def session_id(method: str, request: bytes) -> str | None:
    """Names the beginning of a request's prompt.

    Args:
        method: The rpc's name.
        request: The message as it came.

    Returns:
        The same for requests whose prompts begin alike; None where any replica will do.
    """
    message_class = _REQUESTS.get(method)
    if message_class is None:
        return None
    try:
        message: Any = message_class.FromString(request)
    except DecodeError:
        return None  # the replica says what is wrong with it
    beginning = _beginning(message.prompt)
    return hashlib.blake2b(beginning, digest_size=16).hexdigest() if beginning else None


def _beginning(prompt: types.Prompt) -> bytes:
    if prompt.WhichOneof("source") == "token_ids":
        return b"".join(number.to_bytes(4, "little") for number in prompt.token_ids.ids[:_TOKENS])
    return prompt.text.encode()[:_BYTES]
