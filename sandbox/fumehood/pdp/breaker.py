"""Stops asking a server that hangs: every call would wait for the whole deadline only to be denied.

closed ──(failures reach the threshold)──▶ open ──(pause over)──▶ half open ──(success)──▶ closed
                                            ▲                        │
                                            └───────(failure)────────┘   each pause twice as long

The longest pause is short: it is how long a server that is well again still goes unasked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Breaker"]


class Breaker:
    """Thread-safe. *clock* answers seconds that only grow."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        threshold: int = 3,
        pause_s: float = 0.25,
        longest_s: float = 2.0,
    ) -> None:
        self._clock = clock
        self._threshold = threshold
        self._first_s, self._longest_s = pause_s, longest_s
        self._lock = threading.Lock()
        self._failures = 0
        self._pause_s = pause_s
        self._open_until: float | None = None

    def wait_s(self) -> float:
        """Seconds until a call may be tried, 0 for now. When a pause is over, one caller is let through."""
        with self._lock:
            if self._open_until is None:
                return 0.0
            now = self._clock()
            if now < self._open_until:
                return self._open_until - now
            self._open_until = now + self._pause_s  # the others go on waiting for this one
            return 0.0

    def succeeded(self) -> None:
        """The server answered, whatever it said."""
        with self._lock:
            self._failures = 0
            self._pause_s = self._first_s
            self._open_until = None

    def failed(self) -> None:
        """The server was late."""
        with self._lock:
            self._failures += 1
            if self._failures < self._threshold:
                return
            if self._failures > self._threshold:
                self._pause_s = min(self._pause_s * 2, self._longest_s)
            self._open_until = self._clock() + self._pause_s
