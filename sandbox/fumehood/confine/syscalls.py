"""Raw system calls that Python does not offer, and nothing that decides anything.

Each function is one call: it takes plain values, raises `OSError` with the name of the call, and returns
a number or bytes. Numbers and structures are those of the kernel's own headers for 64-bit x86 and ARM.

Source: man pages of section 2; include/uapi/linux/{sched,mount,prctl,seccomp,landlock,capability}.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import struct
from typing import Final

# --- constants -------------------------------------------------------------------------------------

CLONE_VM: Final = 0x00000100
CLONE_FILES: Final = 0x00000400
CLONE_VFORK: Final = 0x00004000
CLONE_PIDFD: Final = 0x00001000
CLONE_PARENT: Final = 0x00008000
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
CLONE_NEW_ANY: Final = 0x7E020000
CLONE_THREAD: Final = 0x00010000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MNT_DETACH: Final = 2

AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000
OPEN_TREE_CLONE: Final = 1
OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH: Final = 0x4
MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
FSOPEN_CLOEXEC: Final = 1
FSCONFIG_SET_STRING: Final = 1
FSCONFIG_CMD_CREATE: Final = 6
FSMOUNT_CLOEXEC: Final = 1
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_NOEXEC: Final = 0x8
MOUNT_ATTR_IDMAP: Final = 0x00100000

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_NAME: Final = 15
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_SET_SECUREBITS: Final = 28
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_GET_NO_NEW_PRIVS: Final = 39
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
SECURE_ALL_LOCKED: Final = 0x2F  # NOROOT, NO_SETUID_FIXUP and both locks, and the KEEP_CAPS lock

CAPABILITY_VERSION: Final = 0x20080522
SECCOMP_SET_MODE_FILTER: Final = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER: Final = 8
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: Final = 0x20
#: Beside the status of exit_group(2), which ignores it: code of ours ends a job. See `listener.Farewell`.
FAREWELL: Final = int.from_bytes(b"fumehood", "big")

#: See `seccomp`: known here, to processes that compile no filter.
EXEC_ONCE_FD: Final = 1023
KEYCTL_JOIN_SESSION_KEYRING: Final = 1

_SHARED_NUMBERS: Final = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}
#: On 64-bit x86 and on ARM.
_OWN_NUMBERS: Final = {
    "bpf": (321, 280),
    "capset": (126, 91),
    "chdir": (80, 49),
    "clone": (56, 220),
    "close": (3, 57),
    "dup3": (292, 24),
    "execve": (59, 221),
    "execveat": (322, 281),
    "exit_group": (231, 94),
    "getpid": (39, 172),
    "keyctl": (250, 219),
    "mkdirat": (258, 34),
    "mount": (165, 40),
    "openat": (257, 56),
    "pidfd_open": (434, 434),
    "pivot_root": (155, 41),
    "ppoll": (271, 73),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "rt_sigaction": (13, 134),
    "seccomp": (317, 277),
    "sendmsg": (46, 211),
    "setns": (308, 268),
    "setsid": (112, 157),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "write": (1, 64),
}
_NUMBERS: Final = {
    name: _SHARED_NUMBERS | {call: numbers[column] for call, numbers in _OWN_NUMBERS.items()}
    for column, name in enumerate(("x86_64", "aarch64"))
}
AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
#: ctypes forgets a type when nobody holds it, and would make each of these anew in every job's process.
_KEPT_TYPES: Final = tuple(ctypes.c_char * size for size in (8, 12, 24, 32))
_libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
#: For the one call that returns twice: the interpreter's lock stays held, so that the child has it too.
_libc_locked = ctypes.PyDLL(None, use_errno=True)
_libc_locked.syscall.restype = ctypes.c_long
_IDLE_STACK: Final = (ctypes.c_longlong * 2048)()
_IDLE_STACK_TOP: Final = ctypes.addressof(_IDLE_STACK) + ctypes.sizeof(_IDLE_STACK) // 16 * 16 - 64
_libc_locked.clone.argtypes = (*[ctypes.c_void_p] * 2, ctypes.c_int, *[ctypes.c_void_p] * 2)
_PAUSE: Final = ctypes.cast(_libc_locked.pause, ctypes.c_void_p)


def machine() -> str:
    """The machine's name, if this module knows its system-call numbers.

    Raises:
        OSError: ENOSYS on any other machine.
    """
    name = os.uname().machine
    if name not in _NUMBERS:
        raise OSError(errno.ENOSYS, f"confinement knows x86_64 and aarch64, this machine is {name}")
    return name


def _word(value: object) -> object:
    """Integers as full words: ctypes would pass 32 bits and leave the rest of the register to chance."""
    return ctypes.c_long(value) if isinstance(value, int) else value


def number(name: str) -> int:
    """The number of the system call *name* on this machine."""
    return _NUMBERS[machine()][name]


def call(name: str, *args: object) -> int:
    """Make the system call *name*. Raises OSError with that name."""
    return call_number(number(name), *args, name=name)


def call_number(number: int, *args: object, name: str = "syscall") -> int:
    """Make the system call with this *number*."""
    result = int(_libc.syscall(ctypes.c_long(number), *map(_word, args)))
    return _checked(result, name)


def _checked(result: int, name: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


# --- namespaces and mounts -------------------------------------------------------------------------


def unshare(flags: int) -> None:
    """unshare(2)."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def join_new_session_keyring() -> None:
    """keyctl(2): leave the session's keys behind. Nothing happens where there are no keys to be had."""
    with contextlib.suppress(OSError):
        call("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None)


def clone(flags: int) -> tuple[int, int]:
    """clone(2) as fork(2) with *flags*: the child's number, and a pidfd. The child gets 0 and nothing.

    The caller must be its process's only thread. No handler of Python's or the C library's runs in the
    child: it may compute, make system calls and fork.
    """
    pidfd = ctypes.c_int(-1)
    words = ctypes.c_long(flags | CLONE_PIDFD), ctypes.c_long(0), ctypes.byref(pidfd)
    which = ctypes.c_long(number("clone"))
    pid = _checked(int(_libc_locked.syscall(which, *words, ctypes.c_long(0), ctypes.c_long(0))), "clone")
    return pid, pidfd.value


def locked_libc() -> ctypes.PyDLL:
    """The C library, called with the interpreter's lock held; `syscall` answers -1 and sets ctypes' errno."""
    return _libc_locked


def executable(code: bytes) -> int:
    """The address of memory with *code*: written first, executable then, never both. Raises OSError."""
    protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address = _libc.mmap(None, len(code), protection, flags, -1, 0)
    if address == ctypes.c_void_p(-1).value:
        _checked(-1, "mmap")
    ctypes.memmove(address, code, len(code))
    _checked(_libc.mprotect(address, len(code), mmap.PROT_READ | mmap.PROT_EXEC), "mprotect")
    return int(address)


def start_idle_init(flags: int, pidfd_address: int) -> int:
    """Start the first process of new namespaces, which only waits to be killed; its pidfd is written there.

    Answers less than 0 where that fails: `last_error` says why. The process shares this one's memory, which
    it never writes, and stands in the C library's pause(3) on a stack that all such processes share: none of
    them ever returns from it. So no signal may have a handler here. With SIGCHLD ignored here, orphans that
    it inherits are collected by the kernel.
    """
    flags |= CLONE_VM | CLONE_FILES | CLONE_PIDFD
    return int(_libc_locked.clone(_PAUSE, _IDLE_STACK_TOP, flags, None, pidfd_address))


def last_error() -> int:
    """The errno of the last call that was made with the interpreter's lock held."""
    return ctypes.get_errno()


def setns(fd: int, flags: int) -> None:
    """setns(2)."""
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)), "setns")


def mount(source: str, target: str, *, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    text = [os.fsencode(x) if x else None for x in (source, target, kind)]
    result = _libc.mount(*text, ctypes.c_ulong(flags), data.encode() if data else None)
    _checked(result, f"mount {target}")


def umount(target: str) -> None:
    """umount2(2) with MNT_DETACH."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    call("pivot_root", ctypes.c_char_p(os.fsencode(new)), ctypes.c_char_p(os.fsencode(old)))


def open_tree(where: str | int, *, clone: bool) -> int:
    """A descriptor of the mounts at a path or an open folder; with *clone* a detached copy of them.

    The copy needs CAP_SYS_ADMIN over the mount namespace.
    """
    flags = OPEN_TREE_CLOEXEC | ((OPEN_TREE_CLONE | AT_RECURSIVE) if clone else 0)
    fd, path = (where, b"") if isinstance(where, int) else (AT_FDCWD, os.fsencode(where))
    flags |= AT_EMPTY_PATH if not path else 0
    return call("open_tree", fd, ctypes.c_char_p(path), flags)


def open_path(folder: int, path: str) -> int:
    """A handle (O_PATH) of *path* below the open *folder*. Raises OSError (ELOOP) if a link is in the way."""
    resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
    how = ctypes.create_string_buffer(struct.pack("=QQQ", os.O_PATH | os.O_CLOEXEC, 0, resolve), 24)
    return call("openat2", folder, ctypes.c_char_p(os.fsencode(path)), ctypes.byref(how), 24)


def new_mount(kind: str, *, attrs: int, **options: str) -> int:
    """A detached mount of a new file system: fsopen(2), fsconfig(2), fsmount(2)."""
    context = call("fsopen", ctypes.c_char_p(kind.encode()), FSOPEN_CLOEXEC)
    try:
        for key, value in options.items():
            words = ctypes.c_char_p(key.encode()), ctypes.c_char_p(value.encode())
            call("fsconfig", context, FSCONFIG_SET_STRING, *words, 0)
        call("fsconfig", context, FSCONFIG_CMD_CREATE, None, None, 0)
        return call("fsmount", context, FSMOUNT_CLOEXEC, attrs)
    finally:
        os.close(context)


def move_mount(tree_fd: int, target: str | int) -> None:
    """Attach a detached mount at *target*, a path or an open handle of one."""
    empty, flags = ctypes.c_char_p(b""), MOVE_MOUNT_F_EMPTY_PATH
    if isinstance(target, int):
        call("move_mount", tree_fd, empty, target, empty, flags | MOVE_MOUNT_T_EMPTY_PATH)
    else:
        call("move_mount", tree_fd, empty, AT_FDCWD, ctypes.c_char_p(os.fsencode(target)), flags)


def mount_setattr(
    where: str | int, *, attrs: int, userns_fd: int = 0, propagation: int = 0, recursive: bool = True
) -> None:
    """Set attributes on the mount at a path or on a detached mount's descriptor."""
    flags = AT_RECURSIVE if recursive else 0
    fd, path = (where, b"") if isinstance(where, int) else (AT_FDCWD, os.fsencode(where))
    wanted = ctypes.create_string_buffer(struct.pack("=QQQQ", attrs, 0, propagation, userns_fd), 32)
    flags |= AT_EMPTY_PATH if not path else 0
    call("mount_setattr", fd, ctypes.c_char_p(path), flags, ctypes.byref(wanted), 32)


# --- a process's own state -------------------------------------------------------------------------


def prctl(option: int, *args: int) -> int:
    """prctl(2)."""
    return _checked(int(_libc.prctl(option, *(*args, 0, 0, 0, 0)[:4])), f"prctl({option})")


def set_name(name: str) -> None:
    """The name that `ps` shows: 15 bytes at most."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    prctl(PR_SET_NAME, ctypes.addressof(buffer))


def count_of_capabilities() -> int:
    """How many capabilities this kernel knows."""
    number = 0
    while _libc.prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        number += 1
    if ctypes.get_errno() != errno.EINVAL:  # past the last one
        _checked(-1, f"prctl({PR_CAPBSET_READ})")
    return number


def drop_capabilities() -> None:
    """Empty every capability set of this thread, the bounding set included, and lock it so."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    for which in range(count_of_capabilities()):
        prctl(PR_CAPBSET_DROP, which)
    prctl(PR_SET_SECUREBITS, SECURE_ALL_LOCKED)
    clear_capabilities()


def clear_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets; needs no privilege."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", CAPABILITY_VERSION, 0), 8)
    data = ctypes.create_string_buffer(24)
    call("capset", ctypes.byref(header), ctypes.byref(data))


def sigaction(number: int, action: bytes | None = None) -> bytes:
    """rt_sigaction(2) past Python, which does not notice. Answers the kernel's structure that was there."""
    before = ctypes.create_string_buffer(32)
    wanted = ctypes.create_string_buffer(action, 32) if action else None
    call("rt_sigaction", number, wanted and ctypes.byref(wanted), ctypes.byref(before), 8)
    return before.raw


def close_from(first: int, *, keep: tuple[int, ...] = ()) -> None:
    """Close every descriptor from *first* on, except those in *keep*."""
    for fd in sorted(k for k in keep if k >= first):
        if fd > first:
            call("close_range", first, fd - 1, 0)
        first = fd + 1
    call("close_range", first, 0xFFFFFFFF, 0)


# --- seccomp -----------------------------------------------------------------------------------------


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def load_filter(program: bytes, *, listener: bool = False) -> int:
    """Install a BPF program over this thread for good; with *listener*, answers the notification fd."""
    prog = _Program(len(program) // 8, program)
    flags = SECCOMP_FILTER_FLAG_NEW_LISTENER if listener else 0
    return call("seccomp", SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(prog))


def execveat(fd: int, argv: list[bytes], env: list[bytes]) -> None:
    """Replace this process by the program open as *fd*. Returns only by raising."""
    argv_c = (ctypes.c_char_p * (len(argv) + 1))(*argv, None)
    env_c = (ctypes.c_char_p * (len(env) + 1))(*env, None)
    call("execveat", fd, ctypes.c_char_p(b""), argv_c, env_c, AT_EMPTY_PATH)
