"""A queue that serves who came first: with queue.SimpleQueue a thread that puts a worker back and wants it
again at once gets it each time, and the others wait until it is too late.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import Generic, TypeVar

__all__ = ["FairQueue"]

GRACE_S = 0.1  # after the time is over: should the whole host have stood still, everybody's is over at once

T = TypeVar("T")


class _Waiter(Generic[T]):
    """One thread that waits; `bell` is held until it is given something."""

    __slots__ = ("bell", "given")

    def __init__(self) -> None:
        self.bell = threading.Lock()
        self.bell.acquire()
        self.given: list[T] = []


class FairQueue(Generic[T]):
    """First come, first served; with what was put back last, whose processor's caches still know it.
    Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: deque[T] = deque()
        self._waiting: deque[_Waiter[T]] = deque()

    def put(self, item: T) -> None:
        """Give *item* to whoever has waited longest, or keep it."""
        with self._lock:
            if not self._waiting:
                self._items.append(item)
                return
            waiter = self._waiting.popleft()
            waiter.given.append(item)
        waiter.bell.release()

    def get(self, timeout: float) -> T:
        """The next item, within *timeout* seconds, or 0.1 s more.

        Raises:
            queue.Empty: nothing came.
        """
        with self._lock:
            if self._items:  # then nobody waits
                return self._items.pop()
            waiter: _Waiter[T] = _Waiter()
            self._waiting.append(waiter)
        try:
            if not waiter.bell.acquire(timeout=timeout):
                waiter.bell.acquire(timeout=GRACE_S)
        except BaseException:  # an interrupt of this thread: what it was given belongs to others
            self._leave(waiter)
            for item in waiter.given:
                self.put(item)
            raise
        if not waiter.given:
            self._leave(waiter)
        if not waiter.given:
            raise queue.Empty
        return waiter.given[0]

    def _leave(self, waiter: _Waiter[T]) -> None:
        with self._lock:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
