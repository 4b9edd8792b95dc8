"""The event loop that starts jobs, watches them, kills them and reports. It has one thread and forks no job.

May not know: profiles, policies, where the application keeps anything.
"""

from __future__ import annotations

import collections
import contextlib
import os
import resource
import selectors
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn

from fumehood.confine import folders, procs, wire
from fumehood.confine.collector import Collector
from fumehood.confine.jails import Jail, Keep, Setup
from fumehood.confine.jobs import KILLED, Job
from fumehood.confine.pool import Kind, Pool, Template

MOST_RUNNING: Final = 64
_MOST_WAITING: Final = 1024
_MOST_WARM: Final = 8
_FILES_OF_A_JOB: Final = 10
_FILES_OF_OURS: Final = 32
_FEW_FILES, _MANY_FILES = 1024, 65_536
_MOST_TEMPLATES: Final = 6
_READ_BYTES: Final = 1 << 16
_IDLE_S: Final = 0.002
_REAP_S: Final = 0.05
_BEAT_S: Final = 5.0
_LOST_S: Final = 2.0


class Supervisor:
    """One application's jobs, until its socket closes."""

    def __init__(self, client: socket.socket, keeper: int, zygote: socket.socket, zygote_pid: int) -> None:
        self._client = client
        self._keeper = keeper
        self._zygote = zygote
        self._zygote_pid = zygote_pid
        self._templates: dict[str, Template] = {}
        self._ending: list[Template] = []  # dropped, while jails of theirs are left
        self._jails: list[Jail] = []
        self._queue: collections.deque[Job] = collections.deque()
        self._next_beat = 0.0
        room = max(1, (_files() - _FILES_OF_OURS) // _FILES_OF_A_JOB)
        self._pool = Pool(most=min(_MOST_WARM, (room - 1) // 3))
        self._most_running = min(MOST_RUNNING, room)
        self._most_waiting = min(_MOST_WAITING, room - self._most_running)
        self._collectors: list[Collector] = []
        self._stuck: list[Collector] = []  # killed, and not dead
        self._lost_until = 0.0
        self._selector = selectors.EpollSelector()

    def serve(self) -> NoReturn:
        """Until the client, the keeper or the zygote is gone."""
        self._watch(self._client.fileno(), self._on_client)
        self._watch(self._keeper, self._end_alone)
        self._watch(self._zygote.fileno(), self._end)  # it never speaks: this is its end
        while True:
            ready = self._selector.select(self._patience_s())
            for key, _ in ready:
                if self._selector.get_map().get(key.fd) is key:  # not closed by an earlier one
                    key.data()
            self._look_after(time.monotonic(), is_idle=not ready)

    def _look_after(self, now: float, *, is_idle: bool) -> None:
        for jail in list(self._jails):
            if jail.job:
                jail.job.check(now)
                self._answer_unmade(jail, jail.job)
        self._stuck = [collector for collector in self._stuck if not collector.has_ended()]
        if is_idle and (kind := self._pool.wanted()):
            self._prepare(kind)
        for collector in [c for c in self._collectors if now >= c.until]:
            self._on_collected(collector)
        if self._ending or now < self._lost_until:
            self._reap_lost()
        if self._queue and now >= self._next_beat:
            self._next_beat = now + _BEAT_S
            for job in self._queue:
                job.say_that_it_waits()

    def _answer_unmade(self, jail: Jail, job: Job) -> None:
        """A job that is stopped before its process is made: its template may still be loading modules.

        One that was done with that does not answer any more, and makes room for another.
        """
        if job.stopped and not jail.pid:
            self._conclude(jail, job)
            if job.stopped == "deadline" and jail.template.is_ready:
                self._drop(jail.template)
                jail.template.kill()

    def _jobs(self) -> list[Job]:
        return [jail.job for jail in self._jails if jail.job]

    def _patience_s(self) -> float | None:
        now = time.monotonic()
        waits = [job.patience_s(now) for job in self._jobs()]
        waits += [_IDLE_S] * bool(self._pool.wanted())
        waits += [_BEAT_S] * bool(self._queue or self._collectors)
        waits += [_REAP_S] * (bool(self._ending or self._stuck) or now < self._lost_until)
        return min(waits, default=None)

    def _watch(self, fd: int, callback: Callable[[], object]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def _forget(self, fd: int) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    # --- the client ------------------------------------------------------------------------------------

    def _on_client(self) -> None:
        message = wire.receive(self._client)
        if message is None:
            self._end()
        job = Job(*message)
        if len(self._jobs()) < self._most_running and not self._queue:
            self._start(job)
        elif len(self._queue) < self._most_waiting:
            self._queue.append(job)
            self._watch(job.reply.fileno(), lambda: self._on_reply_of_waiting(job))
            job.say_that_it_waits()
        else:
            job.refuse(f"{self._most_running} jobs run and {self._most_waiting} wait already")

    def _on_reply_of_waiting(self, job: Job) -> None:
        """Stopped, or given up by its caller, before it began."""
        self._forget(job.reply.fileno())
        self._queue.remove(job)
        job.give_up()

    def _end(self) -> NoReturn:
        """Kill everything and go."""
        for jail in self._jails:
            jail.kill()
        for template in [*self._templates.values(), *self._ending]:
            template.kill()
        os._exit(0)  # our keeper collects them, and what they left

    def _end_alone(self) -> NoReturn:
        """Our keeper was killed: what it would do is left to us."""
        procs.end_all_below()
        folders.remove_all()
        os._exit(1)

    # --- templates -------------------------------------------------------------------------------------

    def _template(self, setup: Setup) -> Template:
        """The one for *setup*, made if there is none; those unused for longest make room."""
        found = self._templates.pop(setup.key, None)
        if found is None:
            awaited = [jail.template for jail in self._jails if not jail.pid]
            for old in [old for old in self._templates.values() if old not in awaited]:
                if len(self._templates) >= _MOST_TEMPLATES:
                    self._drop(old)
            try:
                found = Template(setup, self._zygote)
            except (BrokenPipeError, ConnectionResetError):  # the zygote was killed, which ends us anyway
                self._end()
            self._watch(found.channel.fileno(), partial(self._on_template, found))
        self._templates[setup.key] = found
        return found

    def _on_template(self, template: Template) -> None:
        if not self._take_words_of(template):
            self._lose(template)

    def _take_words_of(self, template: Template) -> bool:
        was_known = template.pid
        is_alive = template.hear()
        if template.pid and not was_known:
            self._watch(template.pidfd, partial(self._on_end_of_template, template))
            if template.anchor:
                self._watch(template.anchor_pidfd, partial(self._on_end_of_template, template))
        return is_alive

    def _on_end_of_template(self, template: Template) -> None:
        """One of its two has ended."""
        standing = {template.pidfd, template.anchor_pidfd}
        is_gone = template.reap()
        for fd in standing - {template.pidfd, template.anchor_pidfd}:
            self._forget(fd)
        if not template.pid:
            self._lose(template)
        if is_gone and template in self._ending:
            self._ending.remove(template)

    def _lose(self, template: Template) -> None:
        """No clone can come from it any more. A job that it has said nothing of is given to another, once."""
        self._drop(template)
        again: list[Job] = []
        for jail in [jail for jail in self._jails if jail.template is template and not jail.pid]:
            self._hear(jail)
            if jail.pid:
                continue
            jail.error = jail.error or template.error
            if jail.job and not jail.error and jail.job.may_move():
                again.append(jail.job)
                self._part(jail, jail.job)
            jail.error = jail.error or KILLED
            self._finish(jail)
        for jail in [jail for jail in self._jails if jail.template is template and jail.job]:
            if jail.has_ended and jail.is_explained:  # since nobody is left who would say more
                self._end_jail(jail)
        self._end_unused(template)
        for job in again:
            self._place(job)

    def _part(self, jail: Jail, job: Job) -> None:
        """*job*, of which nothing has run, is no longer this jail's."""
        jail.job = None
        for stream in jail.streams:
            self._forget(stream.fd)

    def _drop(self, template: Template) -> None:
        """No job is started from it any more. It ends when we hang up; its jails go on."""
        if template.is_dropped:
            return
        template.is_dropped = True
        if self._templates.get(template.setup.key) is template:
            del self._templates[template.setup.key]
        self._ending.append(template)
        self._forget(template.channel.fileno())
        template.hang_up()
        self._take_words_of(template)  # who it is, if it has said so only now: it may have to be killed
        template.channel.close()
        self._lost_until = time.monotonic() + _LOST_S
        for jail in self._pool.forget(template.setup.key):
            jail.kill()
        self._end_unused(template)

    def _end_unused(self, template: Template) -> None:
        if template in self._ending and not any(jail.template is template for jail in self._jails):
            template.kill()
            if not template.pid and not template.anchor:
                self._ending.remove(template)

    # --- jails and jobs --------------------------------------------------------------------------------

    def _start(self, job: Job) -> None:
        self._watch(job.reply.fileno(), partial(self._on_reply, job))
        self._place(job)

    def _place(self, job: Job) -> None:
        jail = self._pool.take(job.key) or self._new_jail(self._setup(job), job.plan, job.key, job)
        job.begin(jail)
        for stream in jail.streams:
            self._watch(stream.fd, partial(self._on_output, job, stream))

    def _setup(self, job: Job) -> Setup:
        known = self._templates.get(job.template_key)
        return known.setup if known else job.setup()

    def _new_jail(self, setup: Setup, plan: dict[str, Any] | None, key: str, job: Job | None = None) -> Jail:
        template = self._template(setup)
        jail = Jail(template, plan, key=key)
        self._jails.append(jail)
        self._watch(jail.channel.fileno(), partial(self._on_jail, jail))
        jail.hand_over(*((job.mounts, job.program()) if job else ((),)))
        return jail

    def _on_reply(self, job: Job) -> None:
        """The caller speaks only to say stop; when it hangs up nobody waits any more."""
        if wire.receive(job.reply) is None:
            self._forget(job.reply.fileno())
        job.stop("stopped")
        for jail in [jail for jail in self._jails if jail.job is job]:
            self._answer_unmade(jail, job)

    def _on_jail(self, jail: Jail) -> None:
        try:
            message = wire.receive(jail.channel, flags=socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if message is None:
            self._forget(jail.channel.fileno())
            jail.hung_up = True
            if not jail.pid:
                self._never_made(jail)
            elif jail.has_ended:
                self._end_jail(jail)
            return
        self._take(jail, *message)

    def _take(self, jail: Jail, fields: dict[str, Any], fds: list[int]) -> None:
        jail.take(fields, fds)
        if "made" in fields:
            self._watch(jail.pidfd, partial(self._on_exit, jail))
            if jail.init:
                self._watch(jail.init_pidfd, partial(self._on_exit_of_init, jail))
            if jail.job:
                jail.job.give()
        if jail.observer and jail.observer.fd not in self._selector.get_map():
            self._watch(jail.observer.fd, partial(self._on_held, jail))

    def _never_made(self, jail: Jail) -> None:
        """Its template has said why, or was killed."""
        if not jail.template.is_dropped:
            self._on_template(jail.template)
        if jail in self._jails and not jail.error:
            self._lose(jail.template)
        if jail in self._jails:
            self._finish(jail)

    def _on_held(self, jail: Jail) -> None:
        observer, job = jail.observer, jail.job
        if observer is None or job is None:
            return
        try:
            attempt = observer.handle()
        except OSError:  # the listener has nobody left to listen to
            self._forget(observer.fd)
            return
        if attempt:
            job.tell(attempt)

    def _on_output(self, job: Job, stream: Keep) -> None:
        if not stream.read(_READ_BYTES):
            self._forget(stream.fd)
            stream.close()
        elif stream.is_over:
            job.stop("output")
        job.pass_on()

    def _on_exit(self, jail: Jail) -> None:
        """The job's process has ended. What it left behind dies before anybody is told."""
        self._forget(jail.pidfd)
        self._hear(jail)
        jail.reap()
        if jail.is_explained:
            self._end_jail(jail)

    def _end_jail(self, jail: Jail) -> None:
        """The job's process is collected."""
        if not jail.init:
            self._finish(jail)
            return
        if jail.is_empty and jail.job:
            self._conclude(jail, jail.job)
        jail.kill()

    def _hear(self, jail: Jail) -> None:
        """Everything that it, or its template, has said so far."""
        while not jail.hung_up:
            try:
                message = wire.receive(jail.channel, flags=socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if message is None:
                jail.hung_up = True
            else:
                self._take(jail, *message)

    def _on_exit_of_init(self, jail: Jail) -> None:
        """Nobody is left in the pid namespace; the job's process may have to be collected yet."""
        self._forget(jail.init_pidfd)
        jail.reap_init()
        if jail.has_ended:
            self._finish(jail)

    def _finish(self, jail: Jail) -> None:
        """Every process of it is gone."""
        self._jails.remove(jail)
        for fd in jail.watched():
            self._forget(fd)
        if not jail.is_isolated:
            self._sweep()
        if jail.job:
            self._conclude(jail, jail.job)
        self._pool.remove(jail)
        jail.close()
        if jail.template.is_dropped:
            self._end_unused(jail.template)

    def _conclude(self, jail: Jail, job: Job) -> None:
        """The job and all that it left behind have ended: answer."""
        jail.job = None
        for stream in jail.streams:
            if stream.fd >= 0:
                self._forget(stream.fd)
                while not stream.is_over and stream.read(_READ_BYTES):
                    pass
                stream.close()
        if any(stream.is_over for stream in jail.streams):
            job.stopped = job.stopped or "output"
        self._forget(job.reply.fileno())
        job.conclude()
        if jail.folder >= 0:
            self._collect(job, jail.folder, jail.leave_private_folder())
        else:
            jail.remove_private_folder()
            self._answer(job)
        if jail.key and jail.pid and not jail.error and not (kind := self._pool.want(jail)).waiting:
            self._prepare(kind)
        if self._queue:
            following = self._queue.popleft()
            self._forget(following.reply.fileno())
            self._start(following)

    def _answer(self, job: Job, fds: tuple[int, ...] = ()) -> None:
        """Now, or when the caller has read what it was told before."""
        reply = job.reply.fileno()
        if not job.report(fds):
            self._selector.register(reply, selectors.EVENT_WRITE, partial(self._answer_again, job))

    def _answer_again(self, job: Job) -> None:
        self._forget(job.reply.fileno())
        self._answer(job)

    def _collect(self, job: Job, folder: int, private: str) -> None:
        collector = Collector(job, folder, private)
        self._collectors.append(collector)
        self._watch(collector.channel.fileno(), partial(self._on_collected, collector))

    def _on_collected(self, collector: Collector) -> None:
        self._collectors.remove(collector)
        self._forget(collector.channel.fileno())
        self._answer(collector.job, collector.finish())
        if not collector.has_ended():
            self._stuck.append(collector)

    def _prepare(self, kind: Kind) -> None:
        """One jail ahead for the next job of this kind."""
        if not self._pool.most:
            return
        made = self._new_jail(kind.setup, kind.plan, kind.key)
        for old in self._pool.add(made):
            old.kill()

    def _sweep(self) -> None:
        """What a job without a pid namespace left behind is ours now: kill and reap until there is none."""
        while strays := self._strays():
            procs.kill_all([pid for stray in strays for pid in procs.descendants(stray)] + strays)
            for pid in strays:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def _reap_lost(self) -> None:
        """A template that was killed may leave processes that nobody knows: their namespace waits for us."""
        for pid in self._unknown():
            if procs.is_zombie(pid):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def _strays(self) -> list[int]:
        """Our children that a job has left. It leads a session of its own, which nothing in it can undo."""
        ours, found = os.getsid(0), []
        for pid in self._unknown():
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(pid) != ours or procs.is_zombie(pid):
                    found.append(pid)
        return found

    def _unknown(self) -> list[int]:
        """Our children that are nothing that we know of.

        None of our session while somebody has not said its number yet: it might be that.
        """
        templates = [*self._templates.values(), *self._ending]
        known = {self._zygote_pid, *(collector.pid for collector in (*self._collectors, *self._stuck))}
        known |= {pid for jail in self._jails for pid in (jail.pid, jail.init)}
        known |= {pid for template in templates for pid in (template.pid, template.anchor)}
        found = [pid for pid in procs.children(os.getpid()) if pid not in known]
        unsure = not all(jail.pid for jail in self._jails) or not all(t.pid for t in self._templates.values())
        return [pid for pid in found if _leads_away(pid)] if unsure else found


def _leads_away(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid) != os.getsid(0)
    return False


def _files() -> int:
    """How many files this process may hold open. The soft bound is raised to the hard one."""
    usable = _FEW_FILES
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        usable = soft
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        usable = hard
    return min(usable, _MANY_FILES) if usable != resource.RLIM_INFINITY else _MANY_FILES
