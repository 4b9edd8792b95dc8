"""The one process that forks, and that watches what it forked. Started by exec, one per application process.

It has one thread and no data of its own but the jobs'. It listens to the application over one socket; when
that closes, everything it started is killed and it ends. A zygote, forked before the first job, forks the
jails, so that no job's memory ever holds another job's data.

May not know: profiles, policies, where the application keeps anything.
"""

# runs before and below pathlib

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

from fumehood.confine import jail, landlock, procs, root, syscalls, wire
from fumehood.confine.jobs import Jail, Job, Keep, Setup
from fumehood.confine.layers import REMEDIES
from fumehood.errors import ConfinementError

_READ_BYTES: Final = 1 << 16
_MOST_WARM: Final = 4


def main(client_fd: int) -> NoReturn:
    """Serve one application until its socket closes."""
    _forget_the_callers_ways()
    _reserve_low_descriptors()
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
    """Calls whose absence would otherwise show half way into a job; each is harmless. And a /proc that speaks
    of our own processes: what is found there below us is killed.

    Raises:
        ConfinementError: one of them is missing.
    """
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115 — no path objects here
            raise OSError("/proc is that of other processes (another pid namespace)")
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
    """A process that knows nothing and forks a jail for each socket it is given."""
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
    gc.collect()
    gc.freeze()  # a collection in a child would otherwise write to, and so copy, every page of this
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
            jail.outer(socket.socket(fileno=channel_fd), go_r)
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
        self._jails: list[Jail] = []
        self._warm: dict[str, list[Jail]] = {}
        self._selector = selectors.EpollSelector()

    def serve(self) -> NoReturn:
        """Until the client is gone or the zygote is."""
        self._watch(self._client.fileno(), self._on_client)
        self._watch(self._zygote.fileno(), self._end)  # it never speaks: this is its end
        while True:
            for key, _ in self._selector.select(self._patience_s()):
                if self._selector.get_map().get(key.fd) is key:  # not closed by an earlier one
                    key.data()
            now = time.monotonic()
            for job in self._jobs():
                job.check(now)

    def _jobs(self) -> list[Job]:
        return [jail_.job for jail_ in self._jails if jail_.job]

    def _patience_s(self) -> float | None:
        now = time.monotonic()
        return min((job.patience_s(now) for job in self._jobs()), default=None)

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
        self._start(Job(*message))

    def _end(self) -> NoReturn:
        """Kill everything and go. In a pid namespace the first process takes all others along."""
        for jail_ in self._jails:
            jail_.kill()
        self._jails, doomed = [], self._jails
        self._sweep()
        for jail_ in doomed:
            jail_.remove_private_folder()
        os._exit(0)

    # --- jails and jobs --------------------------------------------------------------------------------

    def _start(self, job: Job) -> None:
        waiting = self._warm.get(job.key, [])
        jail_ = waiting.pop() if waiting and not waiting[-1].error else self._new_jail(job.setup)
        self._watch(job.reply.fileno(), lambda: self._on_reply(job))
        job.begin(jail_)
        for stream in job.streams:
            self._watch(stream.fd, partial(self._on_output, job, stream))

    def _new_jail(self, setup: Setup) -> Jail:
        jail_ = Jail(setup)
        self._jails.append(jail_)
        self._watch(jail_.channel.fileno(), lambda: self._on_jail(jail_))
        jail_.send_setup()
        its = jail_.hand_over()
        syscalls.send_message(self._zygote, b"fork", fds=(its,))
        os.close(its)
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
                self._finish(jail_)
            return
        jail_.take(*message)
        if "status" in message[0] and jail_.job:
            self._conclude(jail_, jail_.job)
        if "pid" in message[0]:
            self._watch(jail_.pidfd, lambda: self._on_exit(jail_))
        if jail_.observer and jail_.observer.fd not in self._selector.get_map():
            self._watch(jail_.observer.fd, lambda: self._on_held(jail_))

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
        for waiting in self._warm.values():
            if jail_ in waiting:
                waiting.remove(jail_)
        jail_.close()

    def _conclude(self, jail_: Jail, job: Job) -> None:
        """The job and all that it left behind have ended: answer. The jail's first process ends by itself."""
        jail_.job = None
        for stream in job.streams:
            if stream.fd >= 0:
                self._forget(stream.fd)
                while not stream.is_over and stream.read(_READ_BYTES):
                    pass
                stream.close()
        if any(stream.is_over for stream in job.streams):
            job.stopped = job.stopped or "output"
        self._forget(job.reply.fileno())
        jail_.remove_private_folder()
        job.report()
        if job.key and not jail_.error and not self._warm.get(job.key):
            self._prepare(job)

    def _prepare(self, job: Job) -> None:
        """One jail ahead for the next job of this kind; the one least used makes room."""
        while sum(map(len, self._warm.values())) >= _MOST_WARM:
            oldest = next(key for key, waiting in self._warm.items() if waiting)
            self._warm.pop(oldest)[0].kill()
        self._warm.setdefault(job.key, []).append(self._new_jail(job.setup))

    def _sweep(self) -> None:
        """Processes that lost their jail's first process are ours now: kill and reap until there are none."""
        while strays := self._strays():
            procs.kill_all([pid for stray in strays for pid in procs.descendants(stray)] + strays)
            for pid in strays:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def _strays(self) -> list[int]:
        """Our children that are no jail's first process. Listed before the jails are heard: one that became
        our child has said its number before."""
        children = procs.children(os.getpid())
        for jail_ in [jail_ for jail_ in self._jails if not jail_.pid]:
            self._on_jail(jail_)
        known = {jail_.pid for jail_ in self._jails} | {self._zygote_pid}
        return [pid for pid in children if pid not in known]
