"""The supervisor's templates: one for each kind of job, those that were used last."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from fumehood.confine.jails import Jail, Setup
from fumehood.confine.loop import Loop
from fumehood.confine.pool import Template

_MOST: Final = 6
_LOST_S: Final = 2.0
_SILENT_S: Final = 1.0


class Templates:
    """Starts them, hears them, and ends those that are not wanted any more, when their jails are gone.

    *on_loss* is told of one that can make no jail any more, *on_drop* of one that is not to.
    """

    def __init__(
        self,
        loop: Loop,
        zygote: socket.socket,
        jails: list[Jail],
        *,
        on_loss: Callable[[Template], None],
        on_drop: Callable[[Template], None],
    ) -> None:
        self._loop = loop
        self._zygote = zygote
        self._jails = jails
        self._on_loss = on_loss
        self._on_drop = on_drop
        self._used: dict[str, Template] = {}
        self._ending: list[Template] = []  # dropped, while jails of theirs are left
        self._lost_until = 0.0

    def get(self, setup: Setup) -> Template:
        """The one for *setup*, made if there is none; those unused for longest make room.

        Raises BrokenPipeError or ConnectionResetError if the zygote is gone, which makes them.
        """
        found = self._used.pop(setup.key, None)
        if found is None:
            awaited = [jail.template for jail in self._jails if not jail.pid]
            for old in [old for old in self._used.values() if old not in awaited]:
                if len(self._used) >= _MOST:
                    self.drop(old)
            found = Template(setup, self._zygote)
            self._loop.watch(found.channel.fileno(), partial(self.hear, found))
        self._used[setup.key] = found
        return found

    def setup(self, key: str) -> Setup | None:
        """What the one with this *key* was made from, if there is one."""
        return self._used[key].setup if key in self._used else None

    def all(self) -> list[Template]:
        """Those in use and those that are to end."""
        return [*self._used.values(), *self._ending]

    @property
    def are_known(self) -> bool:
        """True if each of those in use has said who it is."""
        return all(template.pid for template in self._used.values())

    def has_lost(self, now: float) -> bool:
        """True if there may be processes of one that was killed, which nobody knows."""
        return bool(self._ending) or now < self._lost_until

    def is_silent(self, template: Template) -> bool:
        """True if it was asked for a jail a while ago, and has said and made nothing since."""
        asked = [jail.asked_at for jail in self._jails if jail.template is template and not jail.pid]
        return bool(asked) and time.monotonic() - max(template.heard_at, min(asked)) > _SILENT_S

    def hear(self, template: Template) -> None:
        """What it has said."""
        if not self._take_words_of(template):
            self._on_loss(template)

    def _take_words_of(self, template: Template) -> bool:
        was_known = template.pid
        is_alive = template.hear()
        if template.pid and not was_known:
            self._loop.watch(template.pidfd, partial(self._on_end, template))
            if template.anchor:
                self._loop.watch(template.anchor_pidfd, partial(self._on_end, template))
        return is_alive

    def _on_end(self, template: Template) -> None:
        """One of its two has ended."""
        standing = {fd for fd in (template.pidfd, template.anchor_pidfd) if self._loop.watches(fd)}
        for fd in standing:  # before it is closed: a collector may have been forked with a copy, which would
            self._loop.forget(fd)  # go on to be heard under a number that is another's by then
        is_gone = template.reap()
        for fd in standing & {template.pidfd, template.anchor_pidfd}:
            self._loop.watch(fd, partial(self._on_end, template))
        if not template.pid:
            self._on_loss(template)
        if is_gone and template in self._ending:
            self._ending.remove(template)

    def drop(self, template: Template) -> None:
        """No job is started from it any more. It ends when we hang up; its jails go on."""
        if template.is_dropped:
            return
        template.is_dropped = True
        if self._used.get(template.setup.key) is template:
            del self._used[template.setup.key]
        self._ending.append(template)
        self._loop.forget(template.channel.fileno())
        template.hang_up()
        self._take_words_of(template)  # who it is, if it has said so only now: it may have to be killed
        template.channel.close()
        self._lost_until = time.monotonic() + _LOST_S
        self._on_drop(template)
        self.end_unused(template)

    def end_unused(self, template: Template) -> None:
        """Kill it if it was dropped and no jail of it is left."""
        if template in self._ending and not any(jail.template is template for jail in self._jails):
            template.kill()
            if not template.pid and not template.anchor:
                self._ending.remove(template)
