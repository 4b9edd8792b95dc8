"""What the supervisor waits for: descriptors, each with what is to be done when something comes of it."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable


class Loop:
    """Descriptors and callbacks; each may go, or be another's, while its turn comes."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], object]] = {}

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """Call *callback* whenever *fd* can be read, or its other side is gone."""
        self._watch(fd, select.EPOLLIN, callback)

    def watch_room(self, fd: int, callback: Callable[[], object]) -> None:
        """Call *callback* whenever *fd* can be written."""
        self._watch(fd, select.EPOLLOUT, callback)

    def _watch(self, fd: int, events: int, callback: Callable[[], object]) -> None:
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def watches(self, fd: int) -> bool:
        """True if it is watched."""
        return fd in self._callbacks

    def forget(self, fd: int) -> None:
        """Watch it no more. Comes before it is closed: its number will be used again."""
        if self._callbacks.pop(fd, None) is not None:
            with contextlib.suppress(OSError):  # it was closed, and is gone
                self._epoll.unregister(fd)

    def turn(self, patience_s: float | None) -> bool:
        """Wait for something to come, and do what there is to do. False if nothing came in time."""
        ready = [(self._callbacks.get(fd), fd) for fd, _ in self._epoll.poll(patience_s)]
        for callback, fd in ready:
            if callback is not None and self._callbacks.get(fd) is callback:  # not closed by an earlier one
                callback()
        return bool(ready)
