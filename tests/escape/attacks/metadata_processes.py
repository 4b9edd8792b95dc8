"""Learning what runs: which numbers other processes have, and what they hold."""

from __future__ import annotations

from functools import partial
from typing import Final

from escape import witness
from escape.model import Attack
from escape.oracles import found_process, leaks, mentions, says
from escape.scene import Scene, syscall

_attack = partial(Attack, kind="metadata", oracle=leaks)


_PIDS: Final = "without a namespace of its own a job sees the numbers of all processes"


_NUMBERS: Final = {"no-userns": _PIDS}


def _map_address(scene: Scene) -> str:
    return witness.maps(scene.kept["decoy"].pid)[0].split("-")[0]


def _robust_list(scene: Scene) -> str:
    import ctypes

    head, size = ctypes.c_long(), ctypes.c_long()
    syscall(274, scene.kept["decoy"].pid, ctypes.byref(head), ctypes.byref(size))
    return str(head.value)


ATTACKS: Final = (
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
        payload="""
def ask(p):
    try: os.close(sc('pidfd_open', p, 0))
    except OSError as error:
        if error.errno != errno.EINVAL: raise
        raise ProcessLookupError from None  # a thread, or a process that is just ending
processes(ask)
""",
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
)
