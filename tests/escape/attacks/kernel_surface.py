"""Getting the kernel to open a door that an ordinary program has no use for."""

from __future__ import annotations

from functools import partial
from typing import Final

from escape import witness
from escape.model import Attack, Run
from escape.oracles import has_map, holds, in_status
from escape.scene import Scene

_attack = partial(Attack, kind="kernel surface", live=True)


def _traced(scene: Scene, run: Run) -> bool:
    return any(witness.field(pid, "TracerPid") not in ("", "0") for pid in witness.named(scene.tag))


def _filters_differ(scene: Scene, run: Run) -> bool:
    return len({witness.field(pid, "Seccomp_filters") for pid in witness.named(scene.tag)}) > 1


def _personal(scene: Scene, run: Run) -> bool:
    return any(int(witness.text(pid, "personality") or "0", 16) & 0x40000 for pid in witness.named(scene.tag))


def _memory_policy(scene: Scene, run: Run) -> bool:
    return any("bind:0" in witness.text(pid, "numa_maps") for pid in witness.named(scene.tag))


def _batch(scene: Scene, run: Run) -> bool:
    return any(witness.scheduling_policy(pid) == 3 for pid in witness.named(scene.tag))


_STAY: Final = "pid = os.fork()\nif pid == 0:\n    {}\n    hold()\nhold_with(pid)"


ATTACKS: Final = (
    _attack(
        id="kernel-io-uring",
        tries="sets up a ring (io_uring), through which no filter sees calls",
        oracle=holds("[io_uring]"),
        payload="""
r = Ring()
hold()
""",
    ),
    _attack(
        id="kernel-userfaultfd",
        tries="handles its own page faults, which makes races in the kernel easy to win (userfaultfd)",
        oracle=holds("[userfaultfd]"),
        payload="""
sc('userfaultfd', 1)
hold()
""",
    ),
    _attack(
        id="kernel-perf-events",
        tries="opens a performance counter (perf_event_open)",
        oracle=holds("[perf_event]"),
        payload="""
attr = ctypes.create_string_buffer(128)
struct.pack_into('=IIQ', attr, 0, 1, 128, 0)
struct.pack_into('=Q', attr, 40, 0x61)
sc('perf_event_open', attr, 0, -1, -1, 0)
hold()
""",
    ),
    _attack(
        id="kernel-fanotify",
        tries="opens a group of file events (fanotify_init)",
        oracle=holds("[fanotify]"),
        payload="""
sc('fanotify_init', 0x200, 0)
hold()
""",
    ),
    _attack(
        id="kernel-memory-file",
        tries="makes a file that lies in no file system (memfd_create)",
        oracle=holds("/memfd:"),
        payload="""
sc('memfd_create', b'x', 0)
hold()
""",
    ),
    _attack(
        id="kernel-secret-memory",
        tries="takes memory away from the kernel's own map (memfd_secret)",
        oracle=holds("/secretmem"),
        payload="""
sc('memfd_secret', 0)
hold()
""",
    ),
    _attack(
        id="kernel-filter-listener",
        tries="installs a filter of its own whose calls it answers itself (seccomp)",
        oracle=holds("seccomp notify"),
        payload="""
code = struct.pack('=HBBI', 6, 0, 0, 0x7fff0000)
room = ctypes.create_string_buffer(code)
prog = struct.pack('=HxxxxxxQ', 1, ctypes.addressof(room))
libc.prctl(38, 1, 0, 0, 0)
sc('seccomp', 1, 8, prog)
hold()
""",
    ),
    _attack(
        id="kernel-filter",
        tries="installs a filter of its own (prctl)",
        oracle=_filters_differ,
        payload=_STAY.format(
            "code = struct.pack('=HBBI', 6, 0, 0, 0x7fff0000)\n"
            "    room = ctypes.create_string_buffer(code)\n"
            "    prog = ctypes.create_string_buffer(struct.pack('=HxxxxxxQ', 1, ctypes.addressof(room)))\n"
            "    libc.prctl(38, 1, 0, 0, 0)\n    checked(libc.prctl(22, 2, prog, 0, 0))"
        ),
    ),
    _attack(
        id="kernel-landlock",
        tries="makes a set of Landlock rules",
        oracle=holds("landlock"),
        payload="""
sc('landlock_create_ruleset', ctypes.create_string_buffer(struct.pack('=Q', 1), 8), 8, 0)
hold()
""",
    ),
    _attack(
        id="kernel-inotify",
        tries="opens a queue of file events, of which a user has few (inotify_init)",
        oracle=holds("inotify"),
        payload="""
checked(libc.inotify_init1(0))
hold()
""",
    ),
    _attack(
        id="kernel-message-queue",
        tries="makes a POSIX message queue",
        oracle=lambda scene, run: holds("/" + scene.token)(scene, run),
        payload="""
sc('mq_open', F['token'].encode(), 0o102, 0o600, 0)
sc('mq_unlink', F['token'].encode())
hold()
""",
    ),
    _attack(
        id="kernel-shared-segment",
        tries="makes a System V segment",
        oracle=has_map("/SYSV"),
        payload="""
libc.shmat.restype = ctypes.c_void_p
n = sc('shmget', 0, 4096, 0o1600)
libc.shmat(n, None, 0)
sc('shmctl', n, 0, 0)
hold()
""",
    ),
    _attack(
        id="kernel-aio",
        tries="makes a ring of the older kind (io_setup)",
        oracle=has_map("[aio]"),
        payload="""
sc('io_setup', 4, ctypes.byref(ctypes.c_long(0)))
hold()
""",
    ),
    _attack(
        id="kernel-memory-policy",
        tries="chooses on which node its memory lies (set_mempolicy)",
        oracle=_memory_policy,
        payload="""
sc('set_mempolicy', 2, ctypes.byref(ctypes.c_long(1)), 64)
m = bytearray(1 << 22)
hold()
""",
    ),
    _attack(
        id="kernel-personality",
        tries="switches off the random layout of what it starts (personality)",
        oracle=_personal,
        payload="""
sc('personality', 0x40000)
hold()
""",
    ),
    _attack(
        id="kernel-scheduling-policy",
        tries="changes its own scheduling policy",
        oracle=_batch,
        payload="""
sc('sched_setscheduler', 0, 3, struct.pack('=i', 0))
hold()
""",
    ),
    _attack(
        id="kernel-trace-child",
        tries="traces a child of its own (ptrace)",
        oracle=_traced,
        payload=_STAY.format("sc(101, 0, 0, 0, 0)"),
    ),
    _attack(
        id="kernel-key",
        tries="makes a keyring (keyctl), whose counting of references has had flaws (CVE-2016-0728)",
        live=False,
        oracle=lambda scene, run: witness.has_key(run.stdout.strip().decode()),
        payload="say(f\"{sc('add_key', b'keyring', F['token'].encode(), 0, 0, -4):08x}\")",
    ),
    _attack(
        id="kernel-huge-pages",
        tries="turns off huge pages for itself (prctl)",
        oracle=in_status("THP_enabled", lambda value: value == "0"),
        payload="""
checked(libc.prctl(41, 1, 0, 0, 0))
hold()
""",
    ),
)
