"""Reaching other processes of the host, or staying after one's own end."""

from __future__ import annotations

import ctypes
import os
import time
from functools import partial
from typing import Final

from escape import witness
from escape.model import Attack, Run
from escape.oracles import ask_name_changed, decoy_changed, decoy_died
from escape.scene import Scene, syscall

_attack = partial(Attack, kind="process", needs=("decoy",), oracle=decoy_died)


def _gone_soon(scene: Scene, run: Run) -> bool:
    """A signal of the kernel's own comes a moment later."""
    return scene.kept["decoy"].poll() is not None


def _pid(scene: Scene) -> int:
    return int(scene.kept["decoy"].pid)


def _state(scene: Scene, run: Run) -> bool:
    return (
        witness.field(_pid(scene), "State")[:1] in ("t", "T")
        or witness.field(_pid(scene), "TracerPid") != "0"
    )


def _survives(scene: Scene, run: Run) -> bool:
    """The job is over, and something of it still runs a moment later."""
    time.sleep(0.15)
    return any(witness.is_alive(pid) for pid in witness.named(scene.tag))


def _grows(scene: Scene, run: Run) -> bool:
    """Somebody still writes after the end; one that forks on and on cannot be found by looking."""
    time.sleep(0.05)
    file = scene.path("work") / "alive"
    before = file.stat().st_size
    time.sleep(0.15)
    return file.stat().st_size > before


def _policy(scene: Scene, run: Run) -> bool:
    return os.sched_getscheduler(_pid(scene)) != os.SCHED_OTHER


def _runs_as_root(scene: Scene, run: Run) -> bool:
    return any(witness.field(pid, "Uid").split()[1:2] == ["0"] for pid in witness.with_word(scene.tag))


def _semaphore(scene: Scene, run: Run) -> bool:
    return syscall(66, scene.facts["sem"], 0, 12, 0) != scene.kept["value"]


def _segment(scene: Scene, run: Run) -> bool:
    return ctypes.string_at(scene.kept["shm"], 24) != scene.nonce.encode()


def _segment_removed(scene: Scene, run: Run) -> bool:
    room = ctypes.create_string_buffer(256)
    try:
        syscall(31, scene.facts["shm"], 2, room)
    except OSError:
        return True
    return bool(int.from_bytes(room.raw[20:24], "little") & 0o1000)


def _message(scene: Scene, run: Run) -> bool:
    room = ctypes.create_string_buffer(128)
    try:
        syscall(70, scene.facts["queue"], room, 100, 7, 0o4000)
    except OSError:
        return False
    return scene.token.encode() in room.raw


def _posix_message(scene: Scene, run: Run) -> bool:
    room = ctypes.create_string_buffer(65536)
    for _ in range(2):
        try:
            got = syscall(243, scene.kept["mq"], room, 65536, 0, 0)
        except OSError:
            return False
        if scene.token.encode() in room.raw[:got]:
            return True
    return False


def _key_made(scene: Scene, run: Run) -> bool:
    try:
        number = syscall(250, 10, -4, b"user", f"new-{scene.token}".encode(), 0)
    except OSError:
        return False
    syscall(250, 9, number, -4)
    return True


def _hides(scene: Scene, run: Run) -> bool:
    """The kernel gives its files in /proc to root: whoever watches cannot look into it any more."""
    return any(witness.owner(pid) not in (-1, os.geteuid()) for pid in witness.named(scene.tag))


_LIVE_DECOY: Final = "time.sleep(0.05)"

ATTACKS: Final = (
    _attack(
        id="process-kill",
        tries="kills another process",
        payload="os.kill(F['decoy'], 9)\n" + _LIVE_DECOY,
    ),
    _attack(
        id="process-kill-group",
        tries="kills another process's group",
        payload="os.killpg(F['decoy'], 9)\n" + _LIVE_DECOY,
    ),
    _attack(
        id="process-kill-thread",
        tries="kills a thread of another process (tkill)",
        payload="sc('tkill', F['decoy'], 9)\n" + _LIVE_DECOY,
    ),
    _attack(
        id="process-kill-thread-of-group",
        tries="kills a thread of another process by both numbers (tgkill)",
        payload="sc('tgkill', F['decoy'], F['decoy'], 9)\n" + _LIVE_DECOY,
    ),
    _attack(
        id="process-queue-signal",
        tries="queues a signal with a value (rt_sigqueueinfo)",
        payload="sc('rt_sigqueueinfo', F['decoy'], 15, struct.pack('=iii', 15, 0, -1) + bytes(116))\n"
        + _LIVE_DECOY,
    ),
    _attack(
        id="process-signal-descriptor",
        tries="signals through a descriptor of the process (pidfd_send_signal)",
        payload="sc('pidfd_send_signal', sc('pidfd_open', F['decoy'], 0), 9, 0, 0)\n" + _LIVE_DECOY,
    ),
    _attack(
        id="process-signal-by-owner",
        tries="names the process as owner of a pipe, so that the kernel signals it (F_SETOWN)",
        payload="r, w = socket.socketpair()\nfor command, value in ((8, F['decoy']), (10, 15)):\n"
        "    fcntl.fcntl(r, command, value)\n"
        "fcntl.fcntl(r, 4, fcntl.fcntl(r, 3) | 0o20000)\nw.send(b'x')\n" + _LIVE_DECOY,
    ),
    _attack(
        id="process-signal-by-owner-ex",
        tries="the same by the owner of another kind (F_SETOWN_EX)",
        payload="r, w = socket.socketpair()\nfcntl.fcntl(r, 15, struct.pack('=ii', 1, F['decoy']))\n"
        "fcntl.fcntl(r, 10, 15)\nfcntl.fcntl(r, 4, fcntl.fcntl(r, 3) | 0o20000)\nw.send(b'x')\n"
        + _LIVE_DECOY,
    ),
    _attack(
        id="process-signal-by-ioctl",
        tries="names the owner by ioctl (FIOSETOWN)",
        payload="r, w = socket.socketpair()\nfcntl.ioctl(r, 0x8901, struct.pack('=i', F['decoy']))\n"
        "fcntl.fcntl(r, 10, 15)\nfcntl.fcntl(r, 4, fcntl.fcntl(r, 3) | 0o20000)\nw.send(b'x')\n"
        + _LIVE_DECOY,
    ),
    _attack(
        id="process-trace-kill",
        tries="attaches to another process and lets it die with the tracer",
        payload="""
sc(101, 0x4206, F['decoy'], 0, 0x100000)
""",
    ),
    _attack(
        id="process-trace-stop",
        tries="attaches to another process and stops it (ptrace)",
        oracle=_state,
        live=True,
        payload="""
sc(101, 0x4206, F['decoy'], 0, 0)
sc(101, 0x4207, F['decoy'], 0, 0)
hold()
""",
    ),
    _attack(
        id="process-trace-write",
        tries="writes into another process's memory word by word (ptrace)",
        oracle=decoy_changed,
        payload="""
sc(101, 16, F['decoy'], 0, 0)
os.waitpid(F['decoy'], 0)
sc(101, 5, F['decoy'], F['buffer'], 0x41414141)
sc(101, 17, F['decoy'], 0, 0)
""",
    ),
    _attack(
        id="process-write-memory",
        tries="copies into another process's memory (process_vm_writev)",
        oracle=decoy_changed,
        payload="""
room = ctypes.create_string_buffer(b'changed!', 8)
here = struct.pack('=QQ', ctypes.addressof(room), 8)
there = struct.pack('=QQ', F['buffer'], 8)
sc('process_vm_writev', F['decoy'], here, 1, there, 1, 0)
""",
    ),
    _attack(
        id="process-write-memory-file",
        tries="writes into another process's memory (/proc/PID/mem)",
        oracle=decoy_changed,
        payload="os.pwrite(os.open(f\"/proc/{F['decoy']}/mem\", os.O_RDWR), b'changed!', F['buffer'])",
    ),
    _attack(
        id="process-priority",
        tries="lowers another process's priority",
        oracle=lambda scene, run: os.getpriority(os.PRIO_PROCESS, _pid(scene)) == 19,
        payload="os.setpriority(os.PRIO_PROCESS, F['decoy'], 19)",
    ),
    _attack(
        id="process-affinity",
        tries="binds another process to one processor",
        oracle=lambda scene, run: len(os.sched_getaffinity(_pid(scene))) == 1 < len(os.sched_getaffinity(0)),
        payload="os.sched_setaffinity(F['decoy'], {0})",
    ),
    _attack(
        id="process-scheduler",
        tries="makes another process run only when nobody else does (sched_setscheduler)",
        oracle=_policy,
        payload="os.sched_setscheduler(F['decoy'], os.SCHED_IDLE, os.sched_param(0))",
    ),
    _attack(
        id="process-scheduler-attributes",
        tries="the same by the newer call (sched_setattr)",
        oracle=_policy,
        payload="sc('sched_setattr', F['decoy'], struct.pack('=IIQiIQQQ', 48, 5, 0, 0, 0, 0, 0, 0), 0)",
    ),
    _attack(
        id="process-disk-priority",
        tries="lowers another process's disk priority",
        oracle=lambda scene, run: syscall(252, 1, _pid(scene)) >> 13 == 3,
        payload="sc('ioprio_set', 1, F['decoy'], 3 << 13)",
    ),
    _attack(
        id="process-limits",
        tries="takes away another process's open files (prlimit)",
        oracle=lambda scene, run: "Max open files            5 " in witness.limits(_pid(scene)),
        payload="sc('prlimit64', F['decoy'], 7, struct.pack('=QQ', 5, 5), 0)",
    ),
    _attack(
        id="process-memory-killer",
        tries="makes the kernel end another process first when memory is short",
        oracle=lambda scene, run: witness.text(_pid(scene), "oom_score_adj").strip() == "999",
        payload="open(f\"/proc/{F['decoy']}/oom_score_adj\", 'w').write('999')",
    ),
    _attack(
        id="process-entered-namespace",
        tries="enters another process's namespaces and renames its host",
        needs=("jailed_decoy",),
        oracle=ask_name_changed,
        payload="""
for kind in ('user', 'uts'): checked(libc.setns(os.open(f"/proc/{F['decoy']}/ns/{kind}", 0), 0))
socket.sethostname('owned-by-job')
""",
    ),
    _attack(
        id="process-entered-by-descriptor",
        tries="enters another process's namespaces by a descriptor of the process (setns of a pidfd)",
        needs=("jailed_decoy",),
        oracle=ask_name_changed,
        payload="""
checked(libc.setns(sc('pidfd_open', F['decoy'], 0), NEWUSER | NEWUTS))
socket.sethostname('owned-by-job')
""",
    ),
    _attack(
        id="process-segment-write",
        tries="writes into a System V segment of the host",
        needs=("shm",),
        oracle=_segment,
        payload="""
libc.shmat.restype = ctypes.c_void_p
at = libc.shmat(F['shm'], None, 0)
if at == 2**64 - 1: raise OSError(ctypes.get_errno(), 'shmat')
ctypes.memmove(at, b'x', 1)
""",
    ),
    _attack(
        id="process-segment-remove",
        tries="removes a System V segment of the host",
        needs=("shm",),
        oracle=_segment_removed,
        payload="sc('shmctl', F['shm'], 0, 0)",
    ),
    _attack(
        id="process-semaphore",
        tries="takes a System V semaphore of the host",
        needs=("sem",),
        oracle=_semaphore,
        payload="sc('semop', F['sem'], struct.pack('=Hhh', 0, -1, 0), 1)",
    ),
    _attack(
        id="process-message",
        tries="sends a message to a System V queue of the host",
        needs=("queue",),
        oracle=_message,
        payload="sc('msgsnd', F['queue'], struct.pack('=q', 7) + F['token'].encode(), 16, 0)",
    ),
    _attack(
        id="process-posix-message",
        tries="sends a message to a POSIX queue of the host",
        needs=("posix_queue",),
        oracle=_posix_message,
        payload="""
fd = sc('mq_open', F['mq'].encode(), os.O_WRONLY, 0, 0)
sc('mq_timedsend', fd, F['token'].encode(), 16, 1, 0)
""",
    ),
    _attack(
        id="process-shared-file",
        tries="changes a file in the host's /dev/shm",
        needs=("posix_shm",),
        oracle=lambda scene, run: scene.kept["shm_file"].read_text() != scene.nonce,
        payload="open(F['shm_name'], 'r+').write('x')",
    ),
    _attack(
        id="process-key",
        tries="puts a key into the user's keyring, where other programs look",
        needs=(),
        oracle=_key_made,
        payload="sc('add_key', b'user', ('new-' + F['token']).encode(), b'x', 1, -4)",
    ),
    _attack(
        id="process-survive",
        tries="leaves a process of a session of its own",
        needs=(),
        oracle=_survives,
        payload="""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(4)
    os._exit(0)
""",
    ),
    _attack(
        id="process-survive-as-sibling",
        tries="makes a sibling instead of a child (CLONE_PARENT)",
        needs=(),
        oracle=_survives,
        payload="""
if sc('clone', 0x8000 | 17, 0, 0, 0, 0) == 0:
    for n in range(3): os.close(n)
    time.sleep(4)
    os._exit(0)
""",
    ),
    _attack(
        id="process-survive-stopped",
        tries="leaves a stopped process, which takes no other signal",
        needs=(),
        oracle=_survives,
        payload="""
if os.fork() == 0:
    os.setsid()
    signal.pthread_sigmask(0, range(1, 65))
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(4)
time.sleep(0.05)
""",
    ),
    _attack(
        id="process-survive-in-namespace",
        tries="leaves the first process of a new namespace, which signals from inside cannot end",
        needs=(),
        oracle=_survives,
        payload="""
userns(NEWPID)
if os.fork() == 0:
    os.setsid()
    time.sleep(4)
""",
    ),
    _attack(
        id="process-survive-forking",
        tries="forks faster than it is looked for while it ends",
        needs=("work",),
        oracle=_grows,
        payload="""
fd = os.open('alive', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
if os.fork() == 0:
    os.setsid()
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        os.write(fd, b'x')
        if os.fork(): os._exit(0)
""",
    ),
    _attack(
        id="process-hide",
        tries="makes itself unreadable for whoever watches it (PR_SET_DUMPABLE)",
        needs=(),
        live=True,
        oracle=_hides,
        payload="""
checked(libc.prctl(4, 0, 0, 0, 0))
hold()
""",
    ),
    _attack(
        id="process-set-id-program",
        tries="starts a program that becomes root by its set-user-id bit",
        needs=(),
        live=True,
        oracle=_runs_as_root,
        payload="""
r, w = os.pipe()
os.dup2(r, 0)
os.set_inheritable(w, True)
os.execv('/usr/bin/su', ['su', 'root', '-c', F['tag']])
""",
    ),
)
