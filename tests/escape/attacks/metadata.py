"""Learning about the host: what exists, what runs, what it is called."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from escape import witness
from escape.model import Attack, Run
from escape.oracles import found_process, found_which, leaks, mentions, says
from escape.scene import Scene, syscall

_attack = partial(Attack, kind="metadata", oracle=leaks)
_LANDLOCK: Final = "Landlock does not cover asking about a path, and without namespaces every path is there"
_PIDS: Final = "without a namespace of its own a job sees the numbers of all processes"
_PATHS: Final = {"no-userns": _LANDLOCK}
_NUMBERS: Final = {"no-userns": _PIDS}


def _host(path: str) -> Callable[[Scene], str]:
    """The first line of a file of the host."""
    return lambda scene: next(iter(Path(path).read_text().splitlines()), "")


def _address_of_a_card(scene: Scene) -> str:
    for card in sorted(os.listdir("/sys/class/net")):
        address = Path(f"/sys/class/net/{card}/address").read_text().strip()
        if address.strip("0:"):
            return address
    return ""


def _outer_address(scene: Scene) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))  # sends nothing
        return str(sock.getsockname()[0])


def _users(scene: Scene) -> str:
    return pwd.getpwall()[-1].pw_dir


def _map_address(scene: Scene) -> str:
    return witness.maps(scene.kept["decoy"].pid)[0].split("-")[0]


def _robust_list(scene: Scene) -> str:
    import ctypes

    head, size = ctypes.c_long(), ctypes.c_long()
    syscall(274, scene.kept["decoy"].pid, ctypes.byref(head), ctypes.byref(size))
    return str(head.value)


def _handle(scene: Scene) -> str:
    return str(scene.path("marked").stat().st_ino)


def _modified(scene: Scene) -> int:
    return int(10**18 + scene.kept["time"])


def _port(scene: Scene) -> str:
    return f":{scene.kept['listener'].getsockname()[1]:04X}"


def _locks(scene: Scene, run: Run) -> bool:
    return f":{scene.kept['inode']} ".encode() in run.stdout


ATTACKS: Final = (
    _attack(
        id="meta-stat",
        tries="asks when a file outside was changed (newfstatat)",
        needs=("marked",),
        oracle=says(_modified),
        reaches=_PATHS,
        payload="say(os.stat(F['marked']).st_mtime_ns)",
    ),
    _attack(
        id="meta-statx",
        tries="asks the same by statx",
        needs=("marked",),
        oracle=says(_modified),
        reaches=_PATHS,
        payload="""
room = ctypes.create_string_buffer(256)
sc('statx', -100, F['marked'].encode(), 0, 0xfff, room)
s, ns = struct.unpack_from('=qI', room, 0x70)
say(s * 10**9 + ns)
""",
    ),
    _attack(
        id="meta-path-descriptor",
        tries="opens a file outside with O_PATH and asks about the descriptor",
        needs=("marked",),
        oracle=says(_modified),
        reaches=_PATHS,
        payload="say(os.fstat(os.open(F['marked'], os.O_PATH)).st_mtime_ns)",
    ),
    _attack(
        id="meta-access",
        tries="finds out which of many names exists (access)",
        needs=("many",),
        oracle=found_which,
        reaches=_PATHS,
        payload="exists_how(lambda p: checked(libc.access(p.encode(), 0)))",
    ),
    _attack(
        id="meta-chdir",
        tries="finds out which of many folders exists (chdir)",
        needs=("many",),
        oracle=found_which,
        reaches=_PATHS,
        payload="exists_how(os.chdir)",
    ),
    _attack(
        id="meta-mkdir-errno",
        tries="tells what exists from how making it fails (mkdir)",
        needs=("many",),
        oracle=found_which,
        reaches=_PATHS,
        payload="""
def ask(path):
    try: os.mkdir(path + '/x/y')
    except FileNotFoundError: os.stat(path)
exists_how(ask)
""",
    ),
    _attack(
        id="meta-open-errno",
        tries="tells what exists from how opening fails: EISDIR, EACCES or ENOENT",
        needs=("many",),
        oracle=found_which,
        reaches=_PATHS,
        payload="exists_how(lambda p: os.open(p, os.O_RDONLY))",
    ),
    _attack(
        id="meta-exec-errno",
        tries="tells what exists from how executing it fails",
        needs=("many",),
        oracle=found_which,
        reaches=_PATHS,
        payload="exists_how(lambda p: os.execve(p, ['x'], {}))",
    ),
    _attack(
        id="meta-statfs",
        tries="tells what exists by asking for its file system",
        needs=("many",),
        oracle=found_which,
        reaches=_PATHS,
        payload="exists_how(os.statvfs)",
    ),
    _attack(
        id="meta-rename-errno",
        tries="tells what exists from how renaming fails",
        needs=("many",),
        oracle=found_which,
        reaches=_PATHS,
        payload="exists_how(lambda p: os.rename(p, p + '/x'))",
    ),
    _attack(
        id="meta-readlink",
        tries="reads where a link outside leads",
        needs=("marked",),
        reaches=_PATHS,
        payload="say(os.readlink(F['link']))",
    ),
    _attack(
        id="meta-getxattr",
        tries="reads an extended attribute of a file outside",
        needs=("marked",),
        reaches=_PATHS,
        payload="say(os.getxattr(F['marked'], 'user.note'))",
    ),
    _attack(
        id="meta-listxattr",
        tries="lists the extended attributes of a file outside",
        needs=("marked",),
        reaches=_PATHS,
        payload="say(str(os.listxattr(F['marked'])))",
    ),
    _attack(
        id="meta-list-folder",
        tries="lists a folder outside",
        needs=("telling",),
        payload="say(str(os.listdir(F['telling'])))",
    ),
    _attack(
        id="meta-inotify",
        tries="watches a folder outside (inotify)",
        needs=("busy",),
        payload="""
fd = checked(libc.inotify_init())
checked(libc.inotify_add_watch(fd, F['busy'].encode(), 0x100))
say(os.read(fd, 4096))
""",
    ),
    _attack(
        id="meta-fanotify",
        tries="watches a folder outside (fanotify, which an ordinary user may since Linux 5.13)",
        needs=("busy",),
        payload="""
fd = sc('fanotify_init', 0xe00, 0)
sc('fanotify_mark', fd, 1, 0x08000100, -100, F['busy'].encode())
say(os.read(fd, 4096))
""",
    ),
    _attack(
        id="meta-file-handle",
        tries="asks for the handle of a file outside, which holds its inode's number",
        needs=("marked",),
        oracle=says(_handle),
        payload="""
room = ctypes.create_string_buffer(struct.pack('=Ii', 64, 0), 80)
sc('name_to_handle_at', -100, F['marked'].encode(), room, ctypes.byref(ctypes.c_int()), 0)
say(struct.unpack_from('=I', room, 8)[0])
""",
    ),
    _attack(
        id="meta-locks",
        tries="reads who holds which lock (/proc/locks)",
        needs=("locked",),
        oracle=_locks,
        payload="say(open('/proc/locks', 'rb').read())",
    ),
    _attack(
        id="meta-host-name",
        tries="asks for the host's name (uname)",
        oracle=says(lambda scene: os.uname().nodename),
        reaches={"no-userns": "the name belongs to a namespace, and uname cannot be filtered by its answer"},
        payload="say(os.uname().nodename)",
    ),
    _attack(
        id="meta-host-name-file",
        tries="reads the host's name (/etc/hostname)",
        oracle=says(_host("/etc/hostname")),
        payload="say(open('/etc/hostname').read().strip())",
    ),
    _attack(
        id="meta-machine-id",
        tries="reads the machine's id",
        oracle=says(_host("/etc/machine-id")),
        payload="say(open('/etc/machine-id').read().strip())",
    ),
    _attack(
        id="meta-boot-id",
        tries="reads the id of this boot",
        oracle=says(_host("/proc/sys/kernel/random/boot_id")),
        payload="say(open('/proc/sys/kernel/random/boot_id').read().strip())",
    ),
    _attack(
        id="meta-boot-words",
        tries="reads the words that the kernel was started with",
        oracle=says(_host("/proc/cmdline")),
        payload="say(open('/proc/cmdline').read().strip())",
    ),
    _attack(
        id="meta-users",
        tries="lists the host's users",
        oracle=mentions(_users),
        payload="say(open('/etc/passwd').read())",
    ),
    _attack(
        id="meta-kernel-symbols",
        tries="reads the kernel's symbols",
        oracle=lambda scene, run: run.stdout.count(b"\n") > 1000,
        payload="say(open('/proc/kallsyms', 'rb').read(1 << 20))",
    ),
    _attack(
        id="meta-memory-of-host",
        tries="asks how much memory the host has (/proc/meminfo)",
        oracle=says(_host("/proc/meminfo")),
        payload="say(open('/proc/meminfo').readline().strip())",
    ),
    _attack(
        id="meta-process-list",
        tries="lists the names of all processes",
        needs=("hidden_decoy",),
        oracle=mentions(lambda scene: "d" + scene.nonce[:14]),
        payload="""
for p in filter(str.isdigit, os.listdir('/proc')):
    try: say(open(f'/proc/{p}/comm').read())
    except OSError: pass
""",
    ),
    _attack(
        id="meta-kill-0",
        tries="finds other processes by signal 0",
        needs=("hidden_decoy",),
        oracle=found_process,
        payload="""
F['refusal_tells'] = True
processes(lambda p: os.kill(p, 0))
""",
        reaches=_NUMBERS,
    ),
    _attack(
        id="meta-getsid",
        tries="finds other processes by their session (getsid)",
        needs=("hidden_decoy",),
        oracle=found_process,
        payload="processes(os.getsid)",
        reaches=_NUMBERS,
    ),
    _attack(
        id="meta-getpgid",
        tries="finds other processes by their group (getpgid)",
        needs=("hidden_decoy",),
        oracle=found_process,
        payload="processes(os.getpgid)",
        reaches=_NUMBERS,
    ),
    _attack(
        id="meta-getpriority",
        tries="finds other processes by their priority",
        needs=("hidden_decoy",),
        oracle=found_process,
        payload="processes(lambda p: os.getpriority(0, p))",
    ),
    _attack(
        id="meta-ioprio-get",
        tries="finds other processes by their disk priority",
        needs=("hidden_decoy",),
        oracle=found_process,
        payload="processes(lambda p: sc('ioprio_get', 1, p))",
    ),
    _attack(
        id="meta-affinity",
        tries="finds other processes by their processors (sched_getaffinity)",
        needs=("hidden_decoy",),
        oracle=found_process,
        payload="processes(os.sched_getaffinity)",
        reaches=_NUMBERS,
    ),
    _attack(
        id="meta-scheduler",
        tries="finds other processes by their scheduling policy",
        needs=("hidden_decoy",),
        oracle=found_process,
        payload="processes(os.sched_getscheduler)",
        reaches=_NUMBERS,
    ),
    _attack(
        id="meta-process-clock",
        tries="finds other processes by reading their processor clock (clock_gettime)",
        needs=("hidden_decoy",),
        oracle=found_process,
        payload="""
def ask(p):
    try: time.clock_gettime((~p << 3) | 2)
    except OSError: raise ProcessLookupError from None
processes(ask)
""",
    ),
    _attack(
        id="meta-capget",
        tries="finds other processes by their capabilities (capget)",
        needs=("hidden_decoy",),
        oracle=found_process,
        payload="""
room = ctypes.create_string_buffer(24)
processes(lambda p: sc(125, struct.pack('=Ii', 0x20080522, p), room))
""",
    ),
    _attack(
        id="meta-pidfd-open",
        tries="finds other processes by opening them (pidfd_open)",
        needs=("hidden_decoy",),
        oracle=found_process,
        payload="processes(lambda p: os.close(sc('pidfd_open', p, 0)))",
    ),
    _attack(
        id="meta-prlimit",
        tries="finds other processes by their limits",
        needs=("hidden_decoy",),
        oracle=found_process,
        payload="""
F['refusal_tells'] = True
processes(lambda p: sc('prlimit64', p, 7, 0, ctypes.create_string_buffer(16)))
""",
    ),
    _attack(
        id="meta-kcmp",
        tries="finds other processes by comparing them with itself (kcmp)",
        needs=("hidden_decoy",),
        oracle=found_process,
        payload="""
F['refusal_tells'] = True
processes(lambda p: sc('kcmp', os.getpid(), p, 1, 0, 0))
""",
    ),
    _attack(
        id="meta-wait-for-file-owner",
        tries="names another process as the owner of a pipe, which fails if there is none (F_SETOWN)",
        needs=("hidden_decoy",),
        oracle=found_process,
        payload="""
r, w = os.pipe()
processes(lambda p: fcntl.fcntl(r, fcntl.F_SETOWN, p))
""",
    ),
    _attack(
        id="meta-memory-layout",
        tries="reads where another process has its memory (/proc/PID/maps)",
        needs=("decoy",),
        oracle=mentions(_map_address),
        payload="say(open(f\"/proc/{F['decoy']}/maps\").read())",
    ),
    _attack(
        id="meta-robust-list",
        tries="asks where another process has its list of locks (get_robust_list)",
        needs=("decoy",),
        oracle=says(_robust_list),
        payload="""
head, size = ctypes.c_long(), ctypes.c_long()
sc('get_robust_list', F['decoy'], ctypes.byref(head), ctypes.byref(size))
say(head.value)
""",
    ),
    _attack(
        id="meta-ipc-list",
        tries="lists System V segments (/proc/sysvipc)",
        needs=("keyed_shm",),
        oracle=mentions(lambda scene: scene.kept["ipc_key"]),
        payload="say(open('/proc/sysvipc/shm').read())",
    ),
    _attack(
        id="meta-ipc-stat",
        tries="asks about a System V segment by its number (shmctl)",
        needs=("keyed_shm",),
        oracle=says(lambda scene: scene.kept["ipc_key"]),
        payload="""
room = ctypes.create_string_buffer(256)
sc('shmctl', F['shm'], 2, room)
say(struct.unpack_from('=i', room)[0])
""",
    ),
    _attack(
        id="meta-connections",
        tries="reads which ports are listened on (/proc/net/tcp)",
        needs=("hidden_tcp",),
        oracle=mentions(_port),
        payload="say(open('/proc/net/tcp').read())",
    ),
    _attack(
        id="meta-unix-sockets",
        tries="reads the names of Unix sockets (/proc/net/unix)",
        needs=("named_socket",),
        payload="say(open('/proc/net/unix', 'rb').read())",
    ),
    _attack(
        id="meta-socket-diagnosis",
        tries="asks the kernel for the names of Unix sockets (netlink, sock_diag)",
        needs=("named_socket",),
        payload="""
s = socket.socket(16, socket.SOCK_RAW, 4)
s.send(struct.pack('=IHHIIBBHIIIII', 40, 20, 0x301, 1, 0, 1, 0, 0, 0xffffffff, 0, 1, 0, 0))
s.settimeout(0.5)
for _ in range(40): say(s.recv(65536))
""",
    ),
    _attack(
        id="meta-network-cards",
        tries="asks the kernel for the network cards (netlink, route)",
        oracle=lambda scene, run: bytes.fromhex(_address_of_a_card(scene).replace(":", "")) in run.stdout,
        payload="""
s = socket.socket(16, socket.SOCK_RAW, 0)
s.send(struct.pack('=IHHIIBBHiII', 32, 18, 0x301, 1, 0, 0, 0, 0, 0, 0, 0))
s.settimeout(0.3)
for _ in range(4): say(s.recv(65536))
""",
    ),
    _attack(
        id="meta-network-addresses",
        tries="asks a socket for the host's addresses (SIOCGIFCONF)",
        oracle=lambda scene, run: socket.inet_aton(_outer_address(scene)) in run.stdout,
        payload="""
room = ctypes.create_string_buffer(4096)
want = struct.pack('=iiQ', 4096, 0, ctypes.addressof(room))
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8912, want)
say(room.raw)
""",
    ),
    _attack(
        id="meta-hardware",
        tries="reads the addresses of network cards (/sys)",
        oracle=mentions(_address_of_a_card),
        payload="for c in os.listdir('/sys/class/net'): say(open(f'/sys/class/net/{c}/address').read())",
    ),
)
