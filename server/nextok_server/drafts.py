"""Drafts: tokens that may come next, looked up in the request's own text, and when they pay.

Knows: the tokens of one request, how its drafts fared, and what it is told that they cost. Does
not know: the model, the cache, other requests, time. At one price a request drafts the same alone
and in a crowd, and one that is resumed with the tokens that it had drafts what it drafted before.
"""

from __future__ import annotations

from collections.abc import Sequence as Many

# In which a drafted token's price is told: parts of a sequence's pass over one token.
PRICE_UNIT = 64
# n-grams that are looked up, the longer ones first: what follows them is more often the same.
_SIZES = (3, 2)
# Lengths of drafts. With the token before them they make passes of 2, 4, 8 and 16 tokens.
_LENGTHS = (1, 3, 7, 15)
_FIRST_LEVEL = 1
# What may be lost to drafts that are wrong, in the unit of their price: three quarters of a pass at
# first, and a sixty-fourth of a pass for each token of the completion. What is gained is kept for
# later, up to what the longest draft takes at any price.
_FIRST_CREDIT = PRICE_UNIT * 3 // 4
_CREDIT_A_TOKEN = PRICE_UNIT // 64
_MOST_CREDIT = PRICE_UNIT * _LENGTHS[-1]


class Drafter:
    """Drafts for one sequence.

    It has a credit of time: drafts take from it what they cost and pay in what they save, and
    there are none that it does not cover. So text without repetition is hardly slower than with
    no drafts at all. They become longer when all of a draft was right, shorter when most of it
    was wrong.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self._credited = 0
        self._credit = _FIRST_CREDIT
        self._level = _FIRST_LEVEL
        self._price = 0
        # What was asked for last, and the answer.
        self._asked = (0, 0, 0)
        self._answer: list[int] = []

    def draft(self, tokens: Many[int], most: int, price: int) -> list[int]:
        """What may follow the tokens; the same when asked again.

        Args:
            tokens: Prompt and completion so far, at least one of it; those of earlier calls
                and more.
            most: Tokens that there is use for.
            price: What each of them takes, in parts of `PRICE_UNIT` of a pass over one token.

        Returns:
            At most `most` tokens; none where nothing is known or where it does not pay.
        """
        asked = (len(tokens), most, price)
        if asked != self._asked:
            self._index(tokens)
            self._price = price
            self._asked, self._answer = asked, self._look_up(tokens, most, price)
        return self._answer

    def settle(self, drafted: int, accepted: int) -> None:
        """Tells how many tokens of the last draft, or of its beginning, were right."""
        gained = accepted * PRICE_UNIT - drafted * self._price
        self._credit = min(self._credit + gained, _MOST_CREDIT)
        if accepted == drafted:
            self._level = min(self._level + 1, len(_LENGTHS) - 1)
        elif 2 * accepted < drafted:
            self._level = max(self._level - 1, 0)

    def _look_up(self, tokens: Many[int], most: int, price: int) -> list[int]:
        level = self._level
        while level >= 0 and _LENGTHS[level] * price > self._credit:
            level -= 1
        if level < 0:
            return []
        length = min(_LENGTHS[level], most)
        place = self._find(tokens)
        # Where the text repeats itself in fewer tokens than are asked for, they go round.
        return [] if place is None else _cycle(tokens[place:], length)

    def _index(self, tokens: Many[int]) -> None:
        """Notes the new n-grams that something follows, and credits the new tokens."""
        count = len(tokens)
        if not self._indexed:
            self._credited = count
        for end in range(self._indexed, count):
            for size in _SIZES:
                if end >= size:
                    self._places[tuple(tokens[end - size : end])] = end
        self._indexed = count
        earned = (count - self._credited) * _CREDIT_A_TOKEN
        self._credit = min(self._credit + earned, _MOST_CREDIT)
        self._credited = count

    def _find(self, tokens: Many[int]) -> int | None:
        """The place behind the last one where the text went as it ends."""
        for size in _SIZES:
            place = self._places.get(tuple(tokens[-size:]))
            if place is not None:
                return place
        return None


def _cycle(tokens: Many[int], length: int) -> list[int]:
    return [tokens[index % len(tokens)] for index in range(length)]
