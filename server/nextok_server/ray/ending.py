"""The mark that ends what a replica says of a call.

Ray carries messages, and with each of them status and trailing metadata, but drops the metadata of
a call that fails. So no call fails: the last thing that a replica says is this mark, and the proxy
turns what came with it into the call's end. Only a call that ends without it has failed in Ray.
"""

from __future__ import annotations

from typing import Final

# No message of protobuf's: fields are numbered from 1.
ENDING: Final = b"\x00"


class Raw:
    """Bytes that Ray takes for a message."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Returns the bytes."""
        return self._data
