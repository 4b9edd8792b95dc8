"""Words of a text, and whether a value stands in it: whole words only, exactly, or apart from case.

A text is words with one space between them, and a line break where one of its parts ends. Whoever looks
pays from `Work`: a search that was made to be slow ends with an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fumehood.errors import PdpError

__all__ = ["CLOSING", "OPENING", "Work", "Writing", "tokens_of"]

OPENING = "\"'`“”‘’«»([{<"
CLOSING = "\"'`“”‘’«»)]}>,;:!?."
_BREAK = re.compile("[ \n]")
_MAX_PLACES = 1000  # a text made to be slow is trusted for nothing
_WORK = 3_000_000  # about 0.3 s


@dataclass(slots=True)
class Work:
    """What looking for the arguments of one call may cost, in tenths of a microsecond or so."""

    left: int = _WORK

    def spend(self, cost: int) -> None:
        """Raises PdpError: there is not so much left."""
        self.left -= cost
        if self.left < 0:
            text = "the arguments are too many to be looked for in all that the session has read"
            raise PdpError(text, code="pdp_input_too_large")


class Writing:
    """A text in which the values of one call are looked for. *folded*: its tokens without case.

    Where a text is read often an index is made, so that the cells of a table are found in what was read.
    """

    __slots__ = ("_at", "_folded", "_folded_at", "_found_for", "_held_for", "_work", "text")

    def __init__(self, text: str, work: Work, folded: tuple[str, ...] = ()) -> None:
        self.text = text
        self._work = work
        self._folded = folded
        self._at: dict[str, list[int]] | None = None
        self._folded_at: dict[str, list[int]] | None = None
        self._found_for = self._held_for = 0  # what was spent so far without an index

    def says(self, value: str) -> bool:
        """True if *value* stands in it as it is: only punctuation between it and whole words' ends."""
        if "\n" in value or value != value.strip():
            return False
        first = value.split(" ", 1)[0]
        bare = first.lstrip(OPENING)
        token = bare.rstrip(CLOSING)
        if not token or (self._at is None and self._found_for <= len(self.text) // 4):
            return self._finds(value)
        places = self._places().get(token, ())
        self._work.spend(1 + len(places))
        return any(self._is_at(place - len(first) + len(bare), value) for place in places)

    def holds(self, tokens: tuple[str, ...]) -> bool:
        """True if *tokens*, which are without case, stand in it one after the other, case apart."""
        if self._folded_at is None and self._held_for <= 2 * len(self._folded):
            return self._holds_somewhere(tokens)
        places = self._folded_places().get(tokens[0], ())
        self._work.spend(1 + len(places))
        return any(self._folded[i : i + len(tokens)] == tokens for i in places)

    def _holds_somewhere(self, tokens: tuple[str, ...]) -> bool:
        cost = 1 + len(self._folded) // 6
        self._held_for += cost
        self._work.spend(cost)
        start = 0
        try:
            while True:
                start = self._folded.index(tokens[0], start)
                self._work.spend(1)
                if self._folded[start : start + len(tokens)] == tokens:
                    return True
                start += 1
        except ValueError:
            return False

    def _folded_places(self) -> dict[str, list[int]]:
        """Which tokens each one is, case apart."""
        if self._folded_at is None:
            self._work.spend(2 * len(self._folded))
            self._folded_at = {}
            for index, token in enumerate(self._folded):
                self._folded_at.setdefault(token, []).append(index)
        return self._folded_at

    def _places(self) -> dict[str, list[int]]:
        """Where each token begins."""
        if self._at is None:
            self._work.spend(len(self.text) // 4)
            self._at = {}
            for word in re.finditer("[^ \n]+", self.text):
                bare = word[0].lstrip(OPENING)
                self._at.setdefault(bare.rstrip(CLOSING), []).append(word.end() - len(bare))
        return self._at

    def _is_at(self, start: int, value: str) -> bool:
        if start < 0 or not self.text.startswith(value, start):
            return False
        return not self._after(start + len(value)).strip(CLOSING)

    def _finds(self, value: str) -> bool:
        cost = 1 + len(self.text) // 256
        self._found_for += cost
        self._work.spend(cost)
        found = self.text.find(value)
        for _ in range(_MAX_PLACES):
            if found < 0:
                return False
            before = _BREAK.split(self.text[max(0, found - 64) : found])[-1]
            if not before.strip(OPENING) and not self._after(found + len(value)).strip(CLOSING):
                return True
            self._work.spend(10)
            found = self.text.find(value, found + 1)
        return False

    def _after(self, end: int) -> str:
        return _BREAK.split(self.text[end : end + 64], maxsplit=1)[0]


def tokens_of(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Whole tokens without the punctuation around them, and the same tokens with it."""
    raw = tuple(text.split())
    stripped = tuple(t.lstrip(OPENING).rstrip(CLOSING) for t in raw)
    return tuple(t for t in stripped if t), raw
