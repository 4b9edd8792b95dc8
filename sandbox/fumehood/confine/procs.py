"""What /proc says about the processes below one: who they are and how much memory they hold."""

# read ten times a second; plain files only
# ruff: noqa: PTH116, PTH123, PTH208

from __future__ import annotations

import contextlib
import os
import signal
import stat
import time
from typing import Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_LOOK_AGAIN_S: Final = 0.001
_PF_EXITING: Final = 0x4
#: How /proc/PID/maps names MAP_SHARED | MAP_ANONYMOUS, without and with a name of the process's own.
_SHARED_MEMORY: Final = (b"/dev/zero", b"[anon_shmem:")


def pid_of(pidfd: int) -> int:
    """The number of the process that *pidfd* holds, as /proc here has it; -1 if it was collected."""
    fd = os.open(f"/proc/self/fdinfo/{pidfd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(fd, 1024).partition(b"\nPid:")[2].split(None, 1)[0])
    finally:
        os.close(fd)


def children(pid: int) -> list[int]:
    """Direct children of *pid*; none if it has ended."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # a child belongs to the thread that forked it
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += [int(word) for word in file.read().split()]
    return found


def descendants(pid: int) -> list[int]:
    """All processes below *pid*, parents first."""
    found: list[int] = []
    waiting = children(pid)
    while waiting:
        found += waiting
        waiting = [grandchild for child in waiting for grandchild in children(child)]
    return found


def is_zombie(pid: int) -> bool:
    """True if *pid* has ended and nobody has collected it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] == b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_ending(pid: int) -> bool:
    """True if *pid* is gone, or every thread of it is on its way out (PF_EXITING, see proc_pid_stat(5))."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        return all(
            _thread_is_ending(f"/proc/{pid}/task/{thread}") for thread in os.listdir(f"/proc/{pid}/task")
        )
    return _is_gone(pid)  # or a /proc that hides other users' processes


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's
        pass
    return False


def _thread_is_ending(folder: str) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"{folder}/stat", "rb") as file:
        return bool(int(file.read().rpartition(b") ")[2].split()[6]) & _PF_EXITING)
    return True


def memory_bytes(pid: int) -> int:
    """Anonymous and shared memory that *pid* holds; 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            lines = file.read().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith((b"RssAnon:", b"RssShmem:"))) * 1024


def own_share_bytes(pid: int) -> int:
    """As `memory_bytes`, with what forked processes share counted once; slower. Falls back to that."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return memory_bytes(pid)
    return (
        sum(int(line.split()[1]) for line in lines if line.startswith((b"Pss_Anon:", b"Pss_Shmem:"))) * 1024
    )


def shareable_bytes(pid: int) -> int:
    """Address space that may be shared with others: quick, and never less than what is. 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            words = file.read().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(words[0]) - int(words[5])) * _PAGE_BYTES


def shared_bytes(pids: list[int]) -> int:
    """Size of all shared anonymous memory that *pids* map, each counted once.

    Its pages stay when a process lets go of them (MADV_DONTNEED, an end, an unmapping by one of several) and
    are then in nobody's resident size. Where a process cannot be looked into, all that may be shared counts.
    """
    sizes: dict[bytes, int] = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/maps", "rb") as file:
                lines = file.read().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        except PermissionError:
            sizes[b"%d" % pid] = shareable_bytes(pid)
            continue
        for line in lines:
            span, rights, offset, _, inode, *name = line.split(None, 5)
            if rights.endswith(b"s") and name and name[0].startswith(_SHARED_MEMORY):
                start, end = (int(word, 16) for word in span.split(b"-"))
                sizes[inode] = max(sizes.get(inode, 0), int(offset, 16) + end - start)
    return sum(sizes.values())


def nameless_bytes(pids: list[int], *, beside: str) -> int:
    """What files without a name take on the file system of *beside*, each counted once: those that *pids*
    hold open, and of those that they only map, what is mapped.

    One that was sent into a socket and is received by nobody is in no list, and does not count.
    """
    sizes: dict[int, int] = {}
    with contextlib.suppress(FileNotFoundError):
        device = os.stat(beside).st_dev
        for pid in pids:
            with contextlib.suppress(OSError):
                sizes |= {**_mapped_nameless(pid, device), **_open_nameless(pid, device)}
    return sum(sizes.values())


def _open_nameless(pid: int, device: int) -> dict[int, int]:
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            status = os.stat(f"/proc/{pid}/fd/{fd}")
            if status.st_nlink == 0 and status.st_dev == device and stat.S_ISREG(status.st_mode):
                found[status.st_ino] = status.st_blocks * 512
    return found


def _mapped_nameless(pid: int, device: int) -> dict[int, int]:
    found: dict[int, int] = {}
    with open(f"/proc/{pid}/maps", "rb") as file:
        gone = [line.split(None, 5) for line in file if line.endswith(b" (deleted)\n")]
    for span, _, offset, where, inode, _ in gone:
        major, minor = (int(word, 16) for word in where.split(b":"))
        if os.makedev(major, minor) == device:
            start, end = (int(word, 16) for word in span.split(b"-"))
            found[int(inode)] = max(found.get(int(inode), 0), int(offset, 16) + end - start)
    return found


def kill_all(pids: list[int]) -> None:
    """SIGKILL to each that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end_all_below() -> None:
    """Kill everything below this process, which inherits all orphans there, and collect it.

    The list of children may miss one that is just being made: it is looked at again until nobody is left.
    """
    with contextlib.suppress(ChildProcessError):
        while True:
            kill_all(descendants(os.getpid()))
            if not os.waitpid(-1, os.WNOHANG)[0]:
                time.sleep(_LOOK_AGAIN_S)


def count_of_user(uid: int) -> int:
    """How many tasks the user has on this host, as RLIMIT_NPROC counts them."""
    total = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if os.stat(f"/proc/{name}").st_uid == uid:
                total += len(os.listdir(f"/proc/{name}/task"))
    return total
