"""Staying after one's own end, hiding, and reaching what processes of the host share."""

from __future__ import annotations

import ctypes
import os
import time
from functools import partial
from typing import Final

from escape import witness
from escape.model import Attack, Run
from escape.oracles import decoy_died
from escape.scene import Scene, syscall

_attack = partial(Attack, kind="process", needs=("decoy",), oracle=decoy_died)


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
    hidden = [pid for pid in witness.named(scene.tag) if witness.owner(pid) not in (-1, os.geteuid())]
    return any(witness.kib(pid, "VmSize") for pid in hidden)  # one that ends belongs to root as well


ATTACKS: Final = (
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
