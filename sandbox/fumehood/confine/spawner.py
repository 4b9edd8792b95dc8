"""The one process that forks, and that watches what it forked. Started by exec, one per application process.

It has one thread and no data of its own but the jobs'. It listens to the application over one socket; when
that closes, everything it started is killed and it ends. A zygote, forked before the first job, forks the
jails, so that no job's memory ever holds another job's data.

May not know: profiles, policies, where the application keeps anything.
"""

# runs before and below pathlib

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import NoReturn

from fumehood.confine import folders, landlock, messages, procs, root, sequence, syscalls, template, wire


def main(client_fd: int) -> NoReturn:
    """Serve one application until its socket closes."""
    _forget_the_callers_ways()
    _reserve_low_descriptors()
    syscalls.join_new_session_keyring()
    client = socket.socket(fileno=client_fd)
    hello = wire.receive(client)
    if hello is None:
        os._exit(0)
    try:
        _require_what_jobs_need()
        standing = root.become_ordinary(hello[0]["needed"])
    except Exception as error:  # noqa: BLE001 — a ConfinementError, or the host's own word
        wire.send(
            client,
            {"error": str(error).partition(" (layer: ")[0], "layer": getattr(error, "layer", "supervisor")},
        )
        os._exit(1)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    sequence.may_share_memory()
    application, keeper = os.getppid(), os.pidfd_open(os.getpid())
    supervisor_pid = os.fork()
    if supervisor_pid:
        client.close()
        _keep(supervisor_pid, application, close=(keeper, *standing.fds))
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    zygote, zygote_pid = _start_zygote(keep_out=(client_fd, keeper, *standing.fds))
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.set_name("fumehood-spawn")
    myself = os.pidfd_open(os.getpid())
    facts = {"identity": standing.identity, "landlock": landlock.abi(), "pid": os.getpid()}
    wire.send(client, {**facts, "folders": folders.PREFIX}, fds=(myself, *standing.fds))
    for fd in (myself, *standing.fds):
        os.close(fd)
    from fumehood.confine.supervisor import Supervisor  # not in the zygote's memory, nor any job's

    try:
        Supervisor(client, keeper, zygote, zygote_pid).serve()
    except BaseException:  # noqa: BLE001 — a fault of ours: said to the caller, and every job dies with us
        import traceback

        with contextlib.suppress(OSError):
            wire.send(client, {"crashed": traceback.format_exc()})
    finally:
        os._exit(1)


def _keep(supervisor: int, application: int, *, close: tuple[int, ...]) -> NoReturn:
    """Wait for the supervisor's end; then, as its orphans are ours, until nobody is left.

    An application that was killed cannot remove its copies of folders: they belong to our user, so we do.
    Its files are closed before its children are given to another: until then it is still our parent.
    """
    syscalls.set_name("fumehood-keeper")
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    for fd in close:
        os.close(fd)
    while os.wait()[0] != supervisor:
        pass
    procs.end_all_below()
    folders.remove_all()
    if os.getppid() != application or procs.is_ending(application):
        folders.remove_all(beginning=folders.copies_of(application))
    os._exit(0)


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
        OSError: one of them is missing.
    """
    if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115 — no path objects here
        raise OSError("/proc is that of other processes (another pid namespace)")
    os.close(os.pidfd_open(os.getpid()))
    os.close(messages.sealed_memfd(b"x"))
    syscalls.call("close_range", 0x7FFFFFFE, 0x7FFFFFFF, 0)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 0)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)


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
        body, fds = messages.receive_message(requests)
        if not body:
            os._exit(0)
        (channel_fd,) = fds
        go_r, go_w = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:  # the user's limit of processes
            with socket.socket(fileno=channel_fd) as channel, contextlib.suppress(OSError):
                wire.send(channel, {"error": str(error), "layer": "processes"})
            os.close(go_r)
            os.close(go_w)
            continue
        if not pid:
            requests.close()
            os.close(go_w)
            template.outer(socket.socket(fileno=channel_fd), go_r)
        os.close(channel_fd)
        os.close(go_r)
        os.waitpid(pid, 0)  # only now is `outer` nobody's parent any more
        with contextlib.suppress(BrokenPipeError):
            os.write(go_w, b"gg")  # to the template and its anchor
        os.close(go_w)
