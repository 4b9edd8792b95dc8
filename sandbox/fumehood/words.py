"""Words of a text, and whether a value stands in it: whole words only, exactly, or apart from case.

A text is words with one space between them, and a line break where one of its parts ends (`joined`). A
large text has an index, so that looking for the cells of a table that was read does not take the product
of both. Whoever looks pays from `Work`: a search that was made to be slow ends with an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fumehood.errors import PdpError

__all__ = ["CLOSING", "OPENING", "Work", "Writing", "tokens_of"]

OPENING = "\"'`“”‘’«»([{<"
CLOSING = "\"'`“”‘’«»)]}>,;:!?."
_BREAK = re.compile("[ \n]")
_MAX_PLACES = 1000  # a text made to be slow is trusted for nothing
_LARGE = 4096  # characters from which an index pays
_WORK = 1_000_000  # about 0.3 s


@dataclass(slots=True)
class Work:
    """What looking for the arguments of one call may cost: a look or a place is 1, and 256 characters are."""

    left: int = _WORK

    def spend(self, cost: int) -> None:
        """Raises PdpError: there is not so much left."""
        self.left -= cost
        if self.left < 0:
            text = "the arguments are too many to be looked for in all that the session has read"
            raise PdpError(text, code="pdp_input_too_large")


class Writing:
    """A text in which values are looked for. *folded*: its tokens without case, if those count as well."""

    __slots__ = ("_at", "_folded", "_folded_at", "text")

    def __init__(self, text: str, folded: Sequence[str] = ()) -> None:
        self.text = text
        self._folded = folded
        self._at: dict[str, list[int]] | None = None
        self._folded_at: dict[str, list[int]] | None = None

    def says(self, value: str, work: Work) -> bool:
        """True if *value* stands in it as it is: only punctuation between it and whole words' ends."""
        if "\n" in value or value != value.strip():
            return False
        first = value.split(" ", 1)[0]
        token = first.lstrip(OPENING).rstrip(CLOSING)
        if len(self.text) <= _LARGE or not token:
            work.spend(1 + len(self.text) // 256)
            return self._finds(value)
        begins = len(first) - len(first.lstrip(OPENING))
        places = self._places().get(token, ())
        work.spend(1 + len(places))
        return any(self._is_at(place - begins, value) for place in places)

    def holds(self, folded: tuple[str, ...], work: Work) -> bool:
        """True if the tokens *folded* stand in it without case, one after the other."""
        if self._folded_at is None:
            self._folded_at = {}
            for index, token in enumerate(self._folded):
                self._folded_at.setdefault(token, []).append(index)
        places = self._folded_at.get(folded[0], ())
        if len(folded) == 1:
            return bool(places)
        work.spend(1 + len(places))
        return any(tuple(self._folded[i : i + len(folded)]) == folded for i in places)

    def _places(self) -> dict[str, list[int]]:
        """Where each token begins."""
        if self._at is None:
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
        found = self.text.find(value)
        for _ in range(_MAX_PLACES):
            if found < 0:
                return False
            before = _BREAK.split(self.text[max(0, found - 64) : found])[-1]
            if not before.strip(OPENING) and not self._after(found + len(value)).strip(CLOSING):
                return True
            found = self.text.find(value, found + 1)
        return False

    def _after(self, end: int) -> str:
        return _BREAK.split(self.text[end : end + 64], maxsplit=1)[0]


def tokens_of(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Whole tokens without the punctuation around them, and the same tokens with it."""
    raw = tuple(text.split())
    stripped = tuple(t.lstrip(OPENING).rstrip(CLOSING) for t in raw)
    return tuple(t for t in stripped if t), raw
