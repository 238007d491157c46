"""Where the state of single tokens lies that has no slot: of trees, whose paths are many.

Knows: keys, places, which of them was used when. Does not know: tensors, slots.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from nextok_server.keys import Key


class Shelf:
    """Keeps the most recently used of what is put there.

    Args:
        size: Tokens that it has room for.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._places: OrderedDict[Key, int] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def put(self, key: Key) -> int | None:
        """The place to write a token's state to.

        Returns:
            None where it is there already, or where there is no room at all.
        """
        if key in self._places or not self._size:
            return None
        place = len(self._places)
        if place == self._size:
            _, place = self._places.popitem(last=False)
        self._places[key] = place
        return place

    def take(self, keys: Iterable[Key]) -> list[int]:
        """The places of tokens that are there; they count as used."""
        places = []
        for key in keys:
            self._places.move_to_end(key)
            places.append(self._places[key])
        return places
