"""The event loop that starts jobs, watches them, kills them and reports. It has one thread and forks no job.

May not know: profiles, policies, where the application keeps anything.
"""

from __future__ import annotations

import math
import os
import socket
import time
from functools import partial
from typing import Any, Final, NoReturn

from fumehood.confine import folders, messages, procs, strays, wire
from fumehood.confine.admission import Queue, room
from fumehood.confine.collector import Collectors
from fumehood.confine.jails import Jail, Setup
from fumehood.confine.jobs import KILLED, Job
from fumehood.confine.loop import Loop
from fumehood.confine.outputs import Outputs
from fumehood.confine.pool import Kind, Pool, Template
from fumehood.confine.templates import Templates

_IDLE_S: Final = 0.002
_REAP_S: Final = 0.05
_TIDY_S: Final = 1.0
_BUSY_S: Final = 0.01
_LEAVE_S: Final = 0.0005


class Supervisor:
    """One application's jobs, until its socket closes."""

    def __init__(self, client: socket.socket, keeper: int, zygote: socket.socket, zygote_pid: int) -> None:
        self._client = client
        self._keeper = keeper
        self._zygote = zygote
        self._zygote_pid = zygote_pid
        self._loop = Loop()
        self._jails: list[Jail] = []
        self._templates = Templates(
            self._loop, zygote, self._jails, on_loss=self._lose, on_drop=self._on_drop
        )
        self._outputs = Outputs(self._loop)
        self._collectors = Collectors(self._loop, answer=self._answer)
        self._queue = Queue(self._loop)
        self._room = room()
        self._pool = Pool(most=self._room.warm)
        self._replaced_at = self._leave_at = 0.0
        self._leaving: list[Jail] = []  # held in their last call: their callers have the processor first
        self._tidy_at = math.inf  # an idle first process that was killed before it had a job is nobody's

    def serve(self) -> NoReturn:
        """Until the client, the keeper or the zygote is gone."""
        self._loop.watch(self._client.fileno(), self._on_client)
        self._loop.watch(self._keeper, self._end_alone)
        self._loop.watch(self._zygote.fileno(), self._end)  # it never speaks: this is its end
        while True:
            has_done = self._loop.turn(self._patience_s())
            self._look_after(time.monotonic(), is_idle=not has_done)

    def _look_after(self, now: float, *, is_idle: bool) -> None:
        for jail in list(self._jails):
            if jail.job:
                jail.job.check(now, running=len(self._jails))
                self._answer_unmade(jail, jail.job)
        self._outputs.look_after(now)
        if self._leaving and (is_idle or now >= self._leave_at):
            self._let_leave()
        elif is_idle and (kind := self._pool.wanted()):
            self._prepare(kind)
        self._collectors.look_after(now)
        if self._templates.has_lost(now) or now >= self._tidy_at:
            self._tidy_at = math.inf if now >= self._tidy_at else self._tidy_at
            strays.reap(self._unknown())
        self._queue.look_after(now)

    def _answer_unmade(self, jail: Jail, job: Job) -> None:
        """A job that is stopped before its process is made: its template may still be loading modules.

        One that was done with that and does not answer any more makes room for another.
        """
        if job.stopped and not jail.pid:
            self._conclude(jail, job)
            is_stuck = jail.template.is_ready and self._templates.is_silent(jail.template)
            if job.stopped == "deadline" and is_stuck:
                self._templates.drop(jail.template)
                jail.template.kill()

    def _jobs(self) -> list[Job]:
        return [jail.job for jail in self._jails if jail.job]

    def _patience_s(self) -> float | None:
        now = time.monotonic()
        waits = [job.patience_s(now) for job in self._jobs()]
        waits += [self._outputs.patience_s(now), self._collectors.patience_s, self._queue.patience_s]
        waits += [_IDLE_S] * bool(self._pool.wanted())
        waits += [_LEAVE_S] * bool(self._leaving)
        waits += [_REAP_S] * self._templates.has_lost(now)
        soonest = min(*waits, self._tidy_at - now)
        return max(0.0, soonest) if soonest < math.inf else None

    # --- the client ------------------------------------------------------------------------------------

    def _on_client(self) -> None:
        message = wire.receive_body(self._client)
        if message is None:
            self._end()
        job = Job(*message)
        if len(self._jobs()) < self._room.running and not self._queue:
            self._start(job)
        elif len(self._queue) < self._room.waiting:
            self._queue.add(job)
        else:
            job.refuse(f"{self._room.running} jobs run and {self._room.waiting} wait already")

    def _end(self) -> NoReturn:
        """Kill everything and go."""
        for jail in self._jails:
            jail.kill()
        for template in self._templates.all():
            template.kill()
        os._exit(0)  # our keeper collects them, and what they left

    def _end_alone(self) -> NoReturn:
        """Our keeper was killed: what it would do is left to us."""
        procs.end_all_below()
        folders.remove_all()
        os._exit(1)

    # --- templates -------------------------------------------------------------------------------------

    def _lose(self, template: Template) -> None:
        """No clone can come from it any more. A job that it has said nothing of is given to another, once."""
        self._templates.drop(template)
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
        self._templates.end_unused(template)
        for job in again:
            self._place(job)

    def _part(self, jail: Jail, job: Job) -> None:
        """*job*, of which nothing has run, is no longer this jail's."""
        jail.job = None
        self._outputs.forget(job, jail)

    def _on_drop(self, template: Template) -> None:
        for jail in self._pool.forget(template.setup.key):
            jail.kill()

    # --- jails and jobs --------------------------------------------------------------------------------

    def _start(self, job: Job) -> None:
        self._place(job)
        self._loop.watch(job.reply.fileno(), partial(self._on_reply, job))

    def _place(self, job: Job) -> None:
        jail = self._pool.take(job.key) or self._new_jail(self._setup(job), job.plan, job.key, job)
        job.begin(jail)
        self._outputs.begin(job, jail)
        if jail.has_said_all and not job.artifacts:
            self._loop.forget(jail.channel.fileno())  # its hang-up is no news, and would interrupt the job

    def _setup(self, job: Job) -> Setup:
        return self._templates.setup(job.template_key) or job.setup()

    def _new_jail(self, setup: Setup, plan: dict[str, Any] | None, key: str, job: Job | None = None) -> Jail:
        try:
            template = self._templates.get(setup)
        except (BrokenPipeError, ConnectionResetError):  # the zygote was killed, which ends us anyway
            self._end()
        jail = Jail(template, plan, key=key)
        self._jails.append(jail)
        self._loop.watch(jail.channel.fileno(), partial(self._on_jail, jail))
        jail.hand_over(*((job.mounts, job.program()) if job else ((),)))
        return jail

    def _on_reply(self, job: Job) -> None:
        """The caller speaks only to say stop; when it hangs up nobody waits any more."""
        if wire.receive(job.reply) is None:
            self._loop.forget(job.reply.fileno())
        job.stop("stopped")
        for jail in [jail for jail in self._jails if jail.job is job]:
            self._answer_unmade(jail, job)

    def _on_jail(self, jail: Jail) -> None:
        try:
            message = wire.receive(jail.channel, flags=messages.NOW)
        except BlockingIOError:
            return
        if message is None:
            self._loop.forget(jail.channel.fileno())
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
            jail.template.heard_at = time.monotonic()
            self._loop.watch(jail.pidfd, partial(self._on_exit, jail))
            if jail.init:
                self._loop.watch(jail.init_pidfd, partial(self._on_exit_of_init, jail))
            if jail.job:
                jail.job.give()
        for listener, heard in ((jail.observer, self._on_held), (jail.farewell, self._on_farewell)):
            if listener and not self._loop.watches(listener.fd):
                self._loop.watch(listener.fd, partial(heard, jail))

    def _never_made(self, jail: Jail) -> None:
        """Its template has said why, or was killed."""
        if not jail.template.is_dropped:
            self._templates.hear(jail.template)
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
            self._loop.forget(observer.fd)
            return
        if attempt:
            job.tell(attempt)

    def _on_farewell(self, jail: Jail) -> None:
        """The job's process is at its end: who waits is told, while the kernel takes it apart."""
        try:
            is_over = jail.hear_farewell()
        except OSError:
            if jail.farewell:
                self._loop.forget(jail.farewell.fd)
            return
        if is_over and jail.job:
            if jail.job.artifacts or not jail.is_ready:
                self._hear(jail)
            self._leaving.append(jail)
            self._leave_at = time.monotonic() + _LEAVE_S
            self._conclude(jail, jail.job)

    def _let_leave(self) -> None:
        """Processes whose callers were answered end now, which takes them a while; the rest follows."""
        for jail in self._leaving:
            if jail.farewell and jail in self._jails:
                jail.farewell.release()
        self._leaving.clear()

    def _on_exit(self, jail: Jail) -> None:
        """The job's process has ended. What it left behind dies before anybody is told."""
        self._loop.forget(jail.pidfd)
        self._hear(jail)
        jail.reap()
        if jail.is_explained:
            self._end_jail(jail)

    def _end_jail(self, jail: Jail) -> None:
        """The job's process is collected. If it was killed before it had its orders, another gets them."""
        self._pool.remove(jail)
        self._move(jail)
        if not jail.init:
            self._finish(jail)
            return
        if jail.job and jail.is_empty:
            self._conclude(jail, jail.job)
        jail.kill()

    def _move(self, jail: Jail) -> None:
        """Its job to another, if nothing of that has run."""
        job = jail.job
        if job and jail.is_unheard and job.may_move():
            self._part(jail, job)
            self._place(job)

    def _hear(self, jail: Jail) -> None:
        """Everything that it, or its template, has said so far."""
        while not jail.hung_up:
            try:
                message = wire.receive(jail.channel, flags=messages.NOW)
            except BlockingIOError:
                return
            if message is None:
                jail.hung_up = True
            else:
                self._take(jail, *message)

    def _on_exit_of_init(self, jail: Jail) -> None:
        """Nobody is left in the pid namespace; the job's process may have to be collected yet."""
        self._loop.forget(jail.init_pidfd)
        jail.reap_init()
        if jail.has_ended:
            self._finish(jail)

    def _finish(self, jail: Jail) -> None:
        """Every process of it is gone."""
        self._jails.remove(jail)
        self._tidy_at = time.monotonic() + _TIDY_S
        for fd in jail.watched():
            self._loop.forget(fd)
        if not jail.is_isolated:
            self._sweep()
        self._move(jail)
        if jail.job:
            self._conclude(jail, jail.job)
        self._pool.remove(jail)
        jail.close()
        if jail.template.is_dropped:
            self._templates.end_unused(jail.template)

    def _conclude(self, jail: Jail, job: Job) -> None:
        """The job and all that it left behind have ended: answer."""
        self._outputs.finish(job, jail)
        job.conclude()
        jail.job = None
        if jail.folder >= 0:
            self._loop.forget(job.reply.fileno())
            self._collectors.begin(job, jail.folder, jail.leave_private_folder())
        else:
            jail.remove_private_folder()
            self._answer(job)
        job.close_inputs()
        self._outputs.forget(job, jail)
        for stream in jail.streams:
            stream.close()
        if jail.pid:  # there is nobody left who would say more
            self._loop.forget(jail.channel.fileno())
            jail.hang_up()
        if jail.key and jail.pid and not jail.error:
            self._replace(self._pool.want(jail))
        if following := self._queue.take():
            self._start(following)

    def _answer(self, job: Job, fds: tuple[int, ...] = ()) -> None:
        """Now, or when the caller has read what it was told before."""
        is_heard = job.report(fds)
        self._loop.forget(job.reply.fileno())
        if is_heard:
            job.hang_up()
        else:
            self._loop.watch_room(job.reply.fileno(), partial(self._answer, job))

    def _prepare(self, kind: Kind) -> None:
        """One jail ahead for the next job of this kind."""
        if not self._pool.most:
            return
        made = self._new_jail(kind.setup, kind.plan, kind.key)
        for old in self._pool.add(made):
            old.kill()

    def _replace(self, kind: Kind) -> None:
        """A jail instead of the one that is used up: at once if jobs come one after the other. Else when
        there is time: the caller who has just been answered needs the processor."""
        now = time.monotonic()
        is_busy, self._replaced_at = now - self._replaced_at < _BUSY_S, now
        if kind.has_room and (is_busy or not kind.waiting):
            self._prepare(kind)

    def _sweep(self) -> None:
        """What a job without a pid namespace left behind is ours now: kill and reap until there is none."""
        while left := strays.of_jobs(self._unknown()):
            strays.kill(left)

    def _unknown(self) -> list[int]:
        """Our children that are nothing that we know of."""
        known = {self._zygote_pid, *self._collectors.pids}
        known |= {pid for jail in self._jails for pid in (jail.pid, jail.init)}
        known |= {pid for template in self._templates.all() for pid in (template.pid, template.anchor)}
        is_sure = all(jail.pid for jail in self._jails) and self._templates.are_known
        return strays.unknown(known, is_sure=is_sure)
