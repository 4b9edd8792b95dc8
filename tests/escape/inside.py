"""What every payload finds defined before its first line. Read as text: nothing of this runs outside."""

# ruff: noqa: F401 — imported for the payloads

import ctypes
import errno
import fcntl
import json
import mmap
import os
import signal
import socket
import struct
import sys
import time

F = json.loads(sys.argv[1])
os.write(2, F["hello"].encode() + b"\n")
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.mmap.restype = ctypes.c_void_p
libc.prctl(15, F["tag"].encode(), 0, 0, 0)

NR = {
    "mmap": 9, "mprotect": 10, "ioctl": 16, "mremap": 25, "shmget": 29, "shmat": 30, "shmctl": 31,
    "clone": 56, "semget": 64, "semop": 65, "semctl": 66, "msgget": 68, "msgsnd": 69, "msgrcv": 70,
    "getsid": 124, "rt_sigqueueinfo": 129, "personality": 135, "getpriority": 140, "sched_setscheduler": 144,
    "pivot_root": 155, "mount": 165, "umount2": 166, "tkill": 200, "sched_setaffinity": 203,
    "sched_getaffinity": 204, "io_setup": 206, "remap_file_pages": 216, "tgkill": 234, "mbind": 237,
    "set_mempolicy": 238, "mq_open": 240, "mq_unlink": 241, "mq_timedsend": 242, "mq_timedreceive": 243,
    "add_key": 248, "request_key": 249, "keyctl": 250, "ioprio_set": 251, "ioprio_get": 252,
    "get_robust_list": 274, "unshare": 272, "vmsplice": 278, "perf_event_open": 298, "fanotify_init": 300,
    "fanotify_mark": 301, "prlimit64": 302, "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308,
    "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "sched_setattr": 314, "renameat2": 316,
    "seccomp": 317, "memfd_create": 319, "bpf": 321, "execveat": 322, "userfaultfd": 323,
    "pkey_mprotect": 329, "pkey_alloc": 330, "statx": 332, "pidfd_send_signal": 424, "io_uring_setup": 425,
    "io_uring_enter": 426, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431,
    "fsmount": 432, "pidfd_open": 434, "clone3": 435, "openat2": 437, "pidfd_getfd": 438,
    "mount_setattr": 442, "landlock_create_ruleset": 444, "memfd_secret": 447, "fchmodat2": 452,
}  # fmt: skip
NEWUSER, NEWNS, NEWPID, NEWNET, NEWIPC, NEWUTS = 1 << 28, 1 << 17, 1 << 29, 1 << 30, 1 << 27, 1 << 26
NEWTIME, NEWCGROUP = 1 << 7, 1 << 25


def checked(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def sc(name, *words):
    """The raw system call. Raises OSError."""
    words = [ctypes.c_long(w) if isinstance(w, int) else w for w in words]
    return checked(libc.syscall(ctypes.c_long(NR.get(name, name)), *words))


def say(what):
    os.write(1, what if isinstance(what, bytes) else f"{what}\n".encode())


def hold(seconds=2.0):
    """Stay, so that whoever watches can see what this process holds."""
    time.sleep(seconds)


def hold_with(pid):
    """Stay as long as the child does."""
    os.waitpid(pid, 0)


def exists_how(ask):
    """Names each of the 4096 candidates about which the kernel does not say that it is missing."""
    for n in range(4096):
        try:
            ask(f"{F['many']}/n{n}")
        except FileNotFoundError:
            continue
        except OSError:
            pass
        say(n)


def processes(ask):
    """Names each number near the hidden process about which the kernel does not say ESRCH."""
    for pid in range(F["from"], F["from"] + 1000):
        try:
            ask(pid)
        except (ProcessLookupError, FileNotFoundError):
            continue
        except PermissionError:
            if not F.get("refusal_tells"):
                raise
        say(pid)


def userns(more=0, *, root=True):
    """Become root of a user namespace (and of the namespaces *more*)."""
    uid, gid = os.getuid(), os.getgid()
    checked(libc.unshare(ctypes.c_int(NEWUSER | more)))
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def mount(source, target, kind=None, flags=0, data=None):
    words = [w.encode() if isinstance(w, str) else w for w in (source, target, kind)]
    checked(libc.mount(*words, ctypes.c_ulong(flags), data.encode() if data else None))


def raw_mmap(length, prot, flags, fd=-1, offset=0):
    at = libc.mmap(None, ctypes.c_size_t(length), prot, flags, fd, ctypes.c_long(offset))
    if at == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return at


def address(buffer):
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


class Ring:
    """The least io_uring that does one operation at a time."""

    def __init__(self):
        params = ctypes.create_string_buffer(120)
        self.fd = sc("io_uring_setup", 4, params)
        words = struct.unpack("=30I", params.raw)
        self.sq, self.cq = words[10:20], words[20:30]
        self.sq_map = mmap.mmap(self.fd, self.sq[6] + 4 * words[0], offset=0)
        self.cq_map = mmap.mmap(self.fd, self.cq[5] + 16 * words[1], offset=0x8000000)
        self.sqes = mmap.mmap(self.fd, 64 * words[0], offset=0x10000000)

    def do(self, op, fd, *, addr=0, length=0, offset=0, flags=0):
        tail = struct.unpack_from("=I", self.sq_map, self.sq[1])[0]
        at = tail & struct.unpack_from("=I", self.sq_map, self.sq[2])[0]
        sqe = struct.pack("=BBHiQQIIQHHiQQ", op, 0, 0, fd, offset, addr, length, flags, 7, 0, 0, 0, 0, 0)
        self.sqes[64 * at : 64 * at + 64] = sqe
        struct.pack_into("=I", self.sq_map, self.sq[6] + 4 * at, at)
        struct.pack_into("=I", self.sq_map, self.sq[1], tail + 1)
        sc("io_uring_enter", self.fd, 1, 1, 1, 0, 0)
        head = struct.unpack_from("=I", self.cq_map, self.cq[0])[0]
        slot = head & struct.unpack_from("=I", self.cq_map, self.cq[2])[0]
        result = struct.unpack_from("=Qi", self.cq_map, self.cq[5] + 16 * slot)[1]
        struct.pack_into("=I", self.cq_map, self.cq[0], head + 1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result


def code():
    """Machine code made at run time: it renames this thread to what only it knows the way to."""
    name = F["ran"].encode() + b"\0"
    return b"\xb8\x9d\0\0\0\xbf\x0f\0\0\0\x48\x8d\x35\x03\0\0\0\x0f\x05\xc3" + name


def run_at(address):
    """Jump there, and stay to be seen."""
    ctypes.CFUNCTYPE(ctypes.c_long)(address)()
    hold()


def elf():
    """A whole program that waits, as bytes."""
    body = b"\xb8\x22\0\0\0\x0f\x05\xeb\xf7"  # again: mov eax, 34 (pause); syscall; jmp again
    at, size = 0x400000, 120 + len(body)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = struct.pack("=HHIQQQIHHHHHH", 2, 62, 1, at + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return ident + head + struct.pack("=IIQQQQQQ", 1, 5, 0, at, at, size, size, 4096) + body
