"""What may be decided now: the rules between a key and a verdict. Pure: is given a clock, knows no widget.

1. After a decision, and whenever the selection moves by itself, the next row needs SETTLE_S before it
   can be decided: a second key press must not hit what slid under the cursor.
2. What was clipped cannot be approved before its end was on screen.
3. One request is decided once: while an answer is under way a second one is refused.
4. What cannot be shown cannot be approved.
"""

from __future__ import annotations

from collections.abc import Callable

from fumehood.approval import Move
from fumehood_tui.view import Key

__all__ = ["SETTLE_S", "Desk"]

SETTLE_S = 0.4


class Desk:
    """Remembers what was seen and what is under way. *clock* is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float], /, *, settle_s: float = SETTLE_S) -> None:
        self._clock = clock
        self._settle_s = settle_s
        self._ready_at = float("-inf")
        self._seen: set[Key] = set()
        self._under_way: set[Key] = set()

    def settle(self) -> None:
        """The row under the cursor changed by itself: give the person time to see it."""
        self._ready_at = self._clock() + self._settle_s

    def saw_end(self, key: Key) -> None:
        """All of *key* has been on screen."""
        self._seen.add(key)

    def begin(self, key: Key) -> None:
        self._under_way.add(key)

    def end(self, key: Key) -> None:
        self._under_way.discard(key)

    def is_under_way(self, key: Key) -> bool:
        return key in self._under_way

    def keep_only(self, keys: set[Key]) -> None:
        """Forget what no longer waits."""
        self._seen &= keys
        self._under_way &= keys

    def why_not(self, key: Key, move: Move) -> str | None:
        """Why *key* cannot be moved now, for the person; None if it can."""
        if key in self._under_way:
            return "the ledger is being asked; wait for its answer"
        if self._clock() < self._ready_at:
            return "the row has just changed: look at it, then press again"
        if move is Move.APPROVE and key not in self._seen:
            return "not all of it has been shown: press v and go to its end (G), then approve"
        return None
