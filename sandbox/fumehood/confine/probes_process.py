"""Probes of what a process gives up, and of what the supervisor of jobs needs."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import signal
import socket
import struct
from typing import Final, NoReturn

from fumehood.confine import landlock, messages, procs, syscalls
from fumehood.confine.child import PATIENCE_S, require
from fumehood.confine.probes_mounts import map_ids

_UNSET: Final = 999  # a system call that no kernel has
_NOTIF_RECV: Final = 0xC0502100
_NOTIF_SEND: Final = 0xC0182101
_NOTIFICATION_BYTES: Final = 80


def drop_bounding() -> None:
    map_ids()
    syscalls.drop_capabilities()


def limits() -> None:
    """Every limit that a job gets, set to what it is."""
    for name in ("CORE", "FSIZE", "DATA", "AS", "CPU", "MEMLOCK", "NPROC", "NOFILE"):
        kind = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(kind, resource.getrlimit(kind))


def no_new_privs() -> None:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    require(syscalls.prctl(syscalls.PR_GET_NO_NEW_PRIVS) == 1)


def bounded_paths() -> None:
    version = landlock.abi()
    if not version:
        syscalls.call("landlock_create_ruleset", None, 0, 1)  # raises what says why
    no_new_privs()
    landlock.restrict([("/dev/null", landlock.READ_FILE)], version=version)
    try:
        os.open("/", os.O_RDONLY)
    except PermissionError:
        return
    require(False)


def _program(number: int, answer: int) -> bytes:
    """BPF: *answer* for one number, yes for all others."""
    return b"".join(
        struct.pack("=HBBI", *line)
        for line in ((0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, answer), (0x06, 0, 0, 0x7FFF0000))
    )


def load_filter() -> None:
    no_new_privs()
    syscalls.load_filter(_program(_UNSET, 0x00050000 | errno.EXDEV))
    try:
        syscalls.call_number(_UNSET)
    except OSError as error:
        require(error.errno == errno.EXDEV)
    else:
        require(False)


def listen() -> None:
    """A held call, answered "let the kernel decide" (Linux 5.5): it then says that there is no such call."""
    no_new_privs()
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if not pid:
        signal.alarm(PATIENCE_S)
        _be_held(its)
    its.close()
    body, fds = messages.receive_message(ours)
    if not fds:
        raise OSError(int(body or errno.EPROTO), "no listener")
    poll = select.poll()
    poll.register(fds[0], select.POLLIN)
    require(bool(poll.poll(PATIENCE_S * 500)))
    held = bytearray(_NOTIFICATION_BYTES)
    fcntl.ioctl(fds[0], _NOTIF_RECV, held, True)
    ticket = struct.unpack_from("=Q", held)[0]
    fcntl.ioctl(fds[0], _NOTIF_SEND, struct.pack("=QqiI", ticket, 0, 0, 1))
    _, status = os.waitpid(pid, 0)
    require(os.WIFEXITED(status) and os.WEXITSTATUS(status) == errno.ENOSYS)


def _be_held(channel: socket.socket) -> NoReturn:
    try:
        listener = syscalls.load_filter(_program(_UNSET, 0x7FC00000), listener=True)
        messages.send_message(channel, b"listener", fds=(listener,))
        syscalls.call_number(_UNSET)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            messages.send_message(channel, str(error.errno).encode())
        os._exit((error.errno or 0) & 0xFF)
    os._exit(0)


# --- what the supervisor needs -----------------------------------------------------------------------------


def memory_file() -> None:
    os.close(messages.sealed_memfd(b"probe"))


def close_range() -> None:
    syscalls.call("close_range", 0x7FFFFFFE, 0x7FFFFFFF, 0)


def list_children() -> None:
    """CONFIG_PROC_CHILDREN: how jobs are counted and found."""
    pid = os.fork()
    if not pid:
        signal.pause()
    try:
        require(pid in procs.children(os.getpid()))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def exec_by_number() -> None:
    """A number that is not open: EBADF is the answer of a kernel that would."""
    try:
        syscalls.execveat(-1, [b"x"], [])
    except OSError as error:
        if error.errno != errno.EBADF:
            raise


def run_in_a_session() -> None:
    os.setsid()
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
