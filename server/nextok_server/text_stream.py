"""Bytes of tokens, as they come, to text that may be shown.

Knows UTF-8 and stop strings. Knows nothing of token ids and models.
"""

import codecs
from collections.abc import Sequence
from typing import NamedTuple


class Pushed(NamedTuple):
    """What one token let out.

    Attributes:
        delta: text to append to what was let out before.
        stop: the stop string that matched, or None.
    """

    delta: str
    stop: str | None


class TextStream:
    """The text of one completion.

    A character is held until its last byte is there; it belongs to the token that brings that
    byte. What is not UTF-8 becomes U+FFFD exactly as in `bytes.decode("utf-8", "replace")` of the
    whole. An end of the text that may be the beginning of a stop string is held until that is
    decided.

    Of several stop strings the first to be complete counts, as if the text came one character
    at a time; of those that are complete at the same character, the longest. How the text is
    split into tokens makes no difference.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        """Starts an empty text.

        Args:
            stop: texts that end the completion, none of them empty.
        """
        assert all(stop), "an empty stop string matches everywhere"
        self._stops = tuple(stop)
        self._first_characters = frozenset(text[0] for text in self._stops)
        self._longest = max(map(len, self._stops), default=0)
        # The beginning of a character. The decoder of codecs would take three calls a token.
        self._begun = b""
        self._held = ""
        self._stopped = False

    def push(self, token_bytes: bytes, *, check_stop: bool = True) -> Pushed:
        """Takes in the next token.

        Args:
            token_bytes: the token's own bytes.
            check_stop: false lets out all complete characters without looking for stop strings;
                no match that is found later begins in them.
        """
        assert not self._stopped, "the text has ended"
        data = self._begun + token_bytes
        decoded, used = codecs.utf_8_decode(data, "replace")
        self._begun = data[used:]
        text = self._held + decoded
        if not self._stops or not check_stop:
            self._held = ""
            return Pushed(text, None)
        match = self._find(text)
        if match is not None:
            self._stopped = True
            self._held = ""
            start, stop = match
            return Pushed(text[:start], stop)
        decided = self._decided(text)
        self._held = text[decided:]
        return Pushed(text[:decided], None)

    def finish(self) -> str:
        """Lets out what is held, and ends the text; nothing after a stop string matched.

        A character that is not complete becomes U+FFFD. Stop strings are not looked for in it.
        """
        if self._stopped:
            return ""
        self._stopped = True
        return self._held + self._begun.decode("utf-8", "replace")

    def _find(self, text: str) -> tuple[int, str] | None:
        """Start and stop string of the first match to be complete, the longest of these."""
        found = [(text.find(stop), stop) for stop in self._stops]
        ends = [(start + len(stop), start, stop) for start, stop in found if start >= 0]
        if not ends:
            return None
        _, start, stop = min(ends)
        return start, stop

    def _decided(self, text: str) -> int:
        """Length of the text without its longest end that a stop string begins with."""
        for start in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[start] in self._first_characters:
                end = text[start:]
                if any(stop.startswith(end) for stop in self._stops):
                    return start
        return len(text)
