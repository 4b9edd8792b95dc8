"""The one process that forks, and that watches what it forked. Started by exec, one per application process.

It has one thread and no data of its own but the jobs'. It listens to the application over one socket; when
that closes, everything it started is killed and it ends. A zygote, forked before the first job, forks the
jails, so that no job's memory ever holds another job's data.

May not know: profiles, policies, where the application keeps anything.
"""

# runs before and below pathlib

from __future__ import annotations

import collections
import contextlib
import os
import resource
import selectors
import signal
import socket
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn

from fumehood.confine import landlock, procs, root, syscalls, template, wire
from fumehood.confine.jobs import Jail, Job, Keep, Setup
from fumehood.confine.layers import REMEDIES
from fumehood.confine.pool import Kind, Pool, Template
from fumehood.errors import ConfinementError

_READ_BYTES: Final = 1 << 16
MOST_RUNNING: Final = 64
_MOST_WAITING: Final = 1024
_FILES_OF_A_JOB: Final = 10
_MOST_TEMPLATES: Final = 6
_IDLE_S: Final = 0.002
_SAY_AGAIN_S: Final = 0.05
_BEAT_S: Final = 5.0


def main(client_fd: int) -> NoReturn:
    """Serve one application until its socket closes."""
    _forget_the_callers_ways()
    _reserve_low_descriptors()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # fewer jobs at a time, then
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    client = socket.socket(fileno=client_fd)
    hello = wire.receive(client)
    if hello is None:
        os._exit(0)
    try:
        _require_what_jobs_need()
        standing = root.become_ordinary(hello[0]["needed"])
    except ConfinementError as error:
        wire.send(client, {"error": str(error).partition(" (layer: ")[0], "layer": error.layer})
        os._exit(1)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    zygote, zygote_pid = _start_zygote(keep_out=(client_fd, *standing.fds))
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.set_name("fumehood-spawn")
    facts = {"identity": standing.identity, "landlock": landlock.abi()}
    wire.send(client, facts, fds=standing.fds)
    for fd in standing.fds:
        os.close(fd)
    try:
        Spawner(client, zygote, zygote_pid).serve()
    except BaseException:  # noqa: BLE001 — a fault of ours: said to the caller, and every job dies with us
        with contextlib.suppress(OSError):
            wire.send(client, {"crashed": traceback.format_exc()})
    finally:
        os._exit(1)


def _forget_the_callers_ways() -> None:
    """What an exec keeps: signals that the application ignores (SIGCHLD: no child could be waited for) or
    blocks, and its mask of file modes. What Python itself ignores stays so."""
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)


def _require_what_jobs_need() -> None:
    """Calls whose absence would otherwise show half way into a job. Each is harmless.

    Raises:
        ConfinementError: one of them is missing.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
        os.close(syscalls.sealed_memfd(b"x"))
        syscalls.call("close_range", 0x7FFFFFFE, 0x7FFFFFFF, 0)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 0)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    except OSError as error:
        raise ConfinementError(str(error), layer="supervisor", remedy=REMEDIES["supervisor"]) from error


def _reserve_low_descriptors() -> None:
    """0 to 3 belong to the jobs: nothing of ours may ever get one of these numbers."""
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(4):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(null, number)
    if null > 3:
        os.close(null)


# --- the zygote --------------------------------------------------------------------------------------


def _start_zygote(*, keep_out: tuple[int, ...]) -> tuple[socket.socket, int]:
    """A process that knows nothing and forks a template for each socket it is given."""
    ours, its = wire.pair()
    pid = os.fork()
    if not pid:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        ours.close()
        for fd in keep_out:
            os.close(fd)
        _be_zygote(its)
    its.close()
    return ours, pid


def _be_zygote(requests: socket.socket) -> NoReturn:
    syscalls.set_name("fumehood-zygote")
    while True:
        body, fds = syscalls.receive_message(requests)
        if not body:
            os._exit(0)
        (channel_fd,) = fds
        go_r, go_w = os.pipe()
        pid = os.fork()
        if not pid:
            requests.close()
            os.close(go_w)
            template.outer(socket.socket(fileno=channel_fd), go_r)
        os.close(channel_fd)
        os.close(go_r)
        os.waitpid(pid, 0)  # only now is `outer` nobody's parent any more
        with contextlib.suppress(BrokenPipeError):
            os.write(go_w, b"g")
        os.close(go_w)


# --- the supervisor ------------------------------------------------------------------------------------


class Spawner:
    """The event loop: starts jails, gives them jobs, watches, kills, reports."""

    def __init__(self, client: socket.socket, zygote: socket.socket, zygote_pid: int) -> None:
        self._client = client
        self._zygote = zygote
        self._zygote_pid = zygote_pid
        self._templates: dict[str, Template] = {}
        self._jails: list[Jail] = []
        self._pool = Pool()
        self._queue: collections.deque[Job] = collections.deque()
        self._next_beat = 0.0
        self._most_waiting = _room_for_waiting()
        self._unsaid: list[Job] = []
        self._selector = selectors.EpollSelector()

    def serve(self) -> NoReturn:
        """Until the client is gone or the zygote is."""
        self._watch(self._client.fileno(), self._on_client)
        self._watch(self._zygote.fileno(), self._end)  # it never speaks: this is its end
        while True:
            ready = self._selector.select(self._patience_s())
            for key, _ in ready:
                if self._selector.get_map().get(key.fd) is key:  # not closed by an earlier one
                    key.data()
            self._look_after(time.monotonic(), is_idle=not ready)

    def _look_after(self, now: float, *, is_idle: bool) -> None:
        for job in self._jobs():
            job.check(now)
        self._unsaid = [job for job in self._unsaid if not job.report()]
        if is_idle and (kind := self._pool.wanted()):
            self._prepare(kind)
        if self._queue and now >= self._next_beat:
            self._next_beat = now + _BEAT_S
            for job in self._queue:
                job.say_that_it_waits()

    def _jobs(self) -> list[Job]:
        return [jail_.job for jail_ in self._jails if jail_.job]

    def _patience_s(self) -> float | None:
        now = time.monotonic()
        waits = [job.patience_s(now) for job in self._jobs()]
        waits += [_SAY_AGAIN_S] * bool(self._unsaid) + [_IDLE_S] * bool(self._pool.wanted())
        waits += [_BEAT_S] * bool(self._queue)
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
        if len(self._jobs()) < MOST_RUNNING and not self._queue:
            self._start(job)
        elif len(self._queue) < self._most_waiting:
            self._queue.append(job)
            self._watch(job.reply.fileno(), lambda: self._on_reply_of_waiting(job))
            job.say_that_it_waits()
        else:
            job.refuse(f"{MOST_RUNNING} jobs run and {self._most_waiting} wait already")

    def _on_reply_of_waiting(self, job: Job) -> None:
        """Stopped, or given up by its caller, before it began."""
        self._forget(job.reply.fileno())
        self._queue.remove(job)
        job.give_up()

    def _end(self) -> NoReturn:
        """Kill everything and go. In a pid namespace the first process takes all others along."""
        for jail_ in self._jails:
            jail_.kill()
        self._jails, doomed = [], self._jails
        self._sweep()
        for jail_ in doomed:
            jail_.remove_private_folder()
        os._exit(0)

    # --- templates -------------------------------------------------------------------------------------

    def _template(self, setup: Setup) -> Template:
        """The one for *setup*, made if there is none; the one unused for longest makes room."""
        found = self._templates.pop(setup.key, None)
        if found is None:
            while len(self._templates) >= _MOST_TEMPLATES:
                self._drop(next(iter(self._templates.values())))
            found = Template(setup, self._zygote)
            self._watch(found.channel.fileno(), lambda: self._on_template(found))
        self._templates[setup.key] = found
        return found

    def _on_template(self, template_: Template) -> None:
        was_known = template_.pid
        is_alive = template_.hear()
        if template_.pid and not was_known:
            self._watch(template_.pidfd, lambda: self._on_end_of_template(template_))
        if not is_alive:
            self._drop(template_)

    def _on_end_of_template(self, template_: Template) -> None:
        self._forget(template_.pidfd)
        template_.reap()

    def _drop(self, template_: Template) -> None:
        """It ends when we hang up; its jails go on."""
        if self._templates.get(template_.setup.key) is template_:
            del self._templates[template_.setup.key]
        self._forget(template_.channel.fileno())
        template_.channel.close()
        for jail_ in self._pool.forget(template_.setup.key):
            jail_.kill()

    # --- jails and jobs --------------------------------------------------------------------------------

    def _start(self, job: Job) -> None:
        jail_ = self._pool.take(job.key) or self._new_jail(self._setup(job), job.plan, job.key, job.mounts)
        self._watch(job.reply.fileno(), lambda: self._on_reply(job))
        job.begin(jail_)
        for stream in jail_.streams:
            self._watch(stream.fd, partial(self._on_output, job, stream))

    def _setup(self, job: Job) -> Setup:
        known = self._templates.get(job.template_key)
        return known.setup if known else job.setup()

    def _new_jail(
        self, setup: Setup, plan: dict[str, Any] | None, key: str, mounts: tuple[int, ...] = ()
    ) -> Jail:
        template_ = self._template(setup)
        jail_ = Jail(template_, plan, key=key)
        self._jails.append(jail_)
        self._watch(jail_.channel.fileno(), lambda: self._on_jail(jail_))
        jail_.hand_over(mounts)
        return jail_

    def _on_reply(self, job: Job) -> None:
        """The caller speaks only to say stop; when it hangs up nobody waits any more."""
        if wire.receive(job.reply) is None:
            self._forget(job.reply.fileno())
        job.stop("stopped")

    def _on_jail(self, jail_: Jail) -> None:
        try:
            message = wire.receive(jail_.channel, flags=socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if message is None:
            self._forget(jail_.channel.fileno())
            jail_.hung_up = True
            if not jail_.pid:
                self._never_made(jail_)
            return
        jail_.take(*message)
        if "status" in message[0] and jail_.job:
            self._conclude(jail_, jail_.job)
        if "pid" in message[0]:
            self._watch(jail_.pidfd, lambda: self._on_exit(jail_))
        if jail_.observer and jail_.observer.fd not in self._selector.get_map():
            self._watch(jail_.observer.fd, lambda: self._on_held(jail_))

    def _never_made(self, jail_: Jail) -> None:
        """Its template has said why, or was killed."""
        if jail_.template.channel.fileno() >= 0:
            self._on_template(jail_.template)
        jail_.error = (
            jail_.error or jail_.template.error or {"layer": "jail", "error": "its template was killed"}
        )
        self._finish(jail_)

    def _on_held(self, jail_: Jail) -> None:
        observer, job = jail_.observer, jail_.job
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

    def _on_exit(self, jail_: Jail) -> None:
        self._forget(jail_.pidfd)
        self._hear(jail_)
        jail_.reap()
        self._finish(jail_)

    def _hear(self, jail_: Jail) -> None:
        """Everything that it has said so far."""
        while not jail_.hung_up:
            try:
                message = wire.receive(jail_.channel, flags=socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if message is None:
                jail_.hung_up = True
            else:
                jail_.take(*message)

    def _finish(self, jail_: Jail) -> None:
        """Its first process is gone, and with it everything in it."""
        self._jails.remove(jail_)
        for fd in jail_.descriptors():
            self._forget(fd)
        if not jail_.is_isolated:
            self._sweep()
        if jail_.job:
            self._conclude(jail_, jail_.job)
        self._pool.remove(jail_)
        jail_.close()

    def _conclude(self, jail_: Jail, job: Job) -> None:
        """The job and all that it left behind have ended: answer. The jail's first process ends by itself."""
        jail_.job = None
        for stream in jail_.streams:
            if stream.fd >= 0:
                self._forget(stream.fd)
                while not stream.is_over and stream.read(_READ_BYTES):
                    pass
                stream.close()
        if any(stream.is_over for stream in jail_.streams):
            job.stopped = job.stopped or "output"
        self._forget(job.reply.fileno())
        jail_.remove_private_folder()
        if not job.report():
            self._unsaid.append(job)
        if jail_.key and not jail_.error and not (kind := self._pool.want(jail_)).waiting:
            self._prepare(kind)
        if self._queue:
            following = self._queue.popleft()
            self._forget(following.reply.fileno())
            self._start(following)

    def _prepare(self, kind: Kind) -> None:
        """One jail ahead for the next job of this kind."""
        made = self._new_jail(kind.setup, kind.plan, kind.key)
        for old in self._pool.add(made):
            old.kill()

    def _sweep(self) -> None:
        """Processes that lost their jail's first process are ours now: kill and reap until there are none."""
        while strays := self._strays():
            procs.kill_all([pid for stray in strays for pid in procs.descendants(stray)] + strays)
            for pid in strays:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def _strays(self) -> list[int]:
        """Our children that a job has left. A job leads a session of its own, which nothing in it can undo.

        One that ended before that is a zombie of our own session: told from a jail that has not said its
        number yet only while there is none.
        """
        children = procs.children(os.getpid())
        ours = os.getsid(0)
        known = {jail_.pid for jail_ in self._jails} | {t.pid for t in self._templates.values()}
        unsure = any(not jail_.pid for jail_ in self._jails) or any(
            not t.pid for t in self._templates.values()
        )
        strays = []
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                is_left = os.getsid(pid) != ours or (not unsure and procs.is_zombie(pid))
                if is_left and pid not in known and pid != self._zygote_pid:
                    strays.append(pid)
        return strays


def _room_for_waiting() -> int:
    """How many jobs may wait, given how many files this process may hold open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    usable = 65_536 if soft == resource.RLIM_INFINITY else soft
    return max(0, min(_MOST_WAITING, (usable - MOST_RUNNING * _FILES_OF_A_JOB - 64) // _FILES_OF_A_JOB))
