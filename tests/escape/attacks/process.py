"""Reaching other processes of the host."""

from __future__ import annotations

import os
from functools import partial
from typing import Final

from escape import witness
from escape.model import Attack, Run
from escape.oracles import ask_name_changed, decoy_changed, decoy_died
from escape.scene import Scene, syscall

_attack = partial(Attack, kind="process", needs=("decoy",), oracle=decoy_died)


def _pid(scene: Scene) -> int:
    return int(scene.kept["decoy"].pid)


def _state(scene: Scene, run: Run) -> bool:
    return (
        witness.field(_pid(scene), "State")[:1] in ("t", "T")
        or witness.field(_pid(scene), "TracerPid") != "0"
    )


def _policy(scene: Scene, run: Run) -> bool:
    return os.sched_getscheduler(_pid(scene)) != os.SCHED_OTHER


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
)
