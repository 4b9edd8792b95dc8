"""What the supervisor waits for: descriptors, each with what is to be done when something comes of it."""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Callable


class Loop:
    """A selector whose keys may go while their turn comes."""

    def __init__(self) -> None:
        self._selector = selectors.EpollSelector()

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """Call *callback* whenever *fd* can be read, or its other side is gone."""
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def watch_room(self, fd: int, callback: Callable[[], object]) -> None:
        """Call *callback* whenever *fd* can be written."""
        self._selector.register(fd, selectors.EVENT_WRITE, callback)

    def watches(self, fd: int) -> bool:
        """True if it is watched."""
        return fd in self._selector.get_map()

    def forget(self, fd: int) -> None:
        """Watch it no more. Comes before it is closed: its number will be used again."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    def turn(self, patience_s: float | None) -> bool:
        """Wait for something to come, and do what there is to do. False if nothing came in time."""
        ready = self._selector.select(patience_s)
        for key, _ in ready:
            if self._selector.get_map().get(key.fd) is key:  # not closed by an earlier one
                key.data()
        return bool(ready)
