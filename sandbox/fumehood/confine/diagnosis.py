"""From facts about a host to findings: which layer of which tier works, and what to do where one does not.

Pure: the same facts give the same findings, and nothing of this host is looked at.
"""

from __future__ import annotations

import errno
import signal
from dataclasses import dataclass
from typing import Final, Literal

from fumehood.confine import remedies
from fumehood.confine.facts import Facts
from fumehood.confine.outcome import TIERS
from fumehood.confine.plan import layers

State = Literal["ok", "weaker", "missing", "unknown"]

#: What each layer is made of. The first probe that failed says why.
_PROBES: Final = {
    "identity": ("identity",),
    "user-ns": ("user-ns", "id-map"),
    "mount-ns": ("mount-ns",),
    "pid-ns": ("pid-ns",),
    "net-ns": ("net-ns",),
    "ipc-ns": ("ipc-ns",),
    "uts-ns": ("uts-ns", "host-name"),
    "cgroup-ns": ("cgroup-ns",),
    "rootfs": ("private-mounts", "tmpfs", "open_tree", "mount_setattr", "move_mount", "pivot_root"),
    "rlimits": ("rlimits",),
    "landlock": ("landlock",),
    "capabilities": ("capset", "bounding-set"),
    "no-new-privs": ("no-new-privs",),
    "seccomp": ("seccomp",),
    "supervisor": ("fork", "session", "memfd", "pidfd", "close_range", "children"),
    "observe": ("observe", "execveat"),
}
_ONLY_WITH_NAMESPACES: Final = ("bounding-set",)
_MACHINES: Final = ("x86_64", "aarch64")
#: The number under which a job's one program is open; it must lie below the hard limit on open files.
_LEAST_OPEN_FILES: Final = 1024
#: What jobs of the usual profiles may have together, and what a supervisor needs beside them.
_LEAST_PROCESSES: Final = 80
#: What Landlock did not do before each version of its interface, and the first Linux that has it.
_LANDLOCK: Final = (
    (2, "5.19", "move or link files between folders (every attempt is refused)"),
    (3, "6.2", "bound truncate"),
    (4, "6.7", "bound TCP bind and connect"),
    (5, "6.10", "bound ioctl on devices"),
    (6, "6.12", "keep signals and abstract sockets inside"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One layer of one tier on this host. `remedy` is empty where nothing is to be done."""

    tier: str
    layer: str
    state: State
    detail: str = ""
    remedy: str = ""

    @property
    def is_missing(self) -> bool:
        """True if a job that asks for this layer is refused."""
        return self.state in ("missing", "unknown")


def diagnose(facts: Facts) -> dict[str, tuple[Finding, ...]]:
    """The findings of each tier, in the order in which layers are applied."""
    return {tier: tuple(_find(tier, name, facts) for name in layers(tier, observe=True)) for tier in TIERS}


def _find(tier: str, layer: str, facts: Facts) -> Finding:
    for probe in _PROBES[layer]:
        if probe in _ONLY_WITH_NAMESPACES and tier != "full":
            continue
        code = facts.tried.get(probe)
        if code is None and probe == "identity" and not facts.is_root:  # there is nothing to give up
            continue
        if code is None:
            return Finding(tier, layer, "unknown", "not tried: a layer before it is missing")
        if code:
            detail = f"{_NAMES.get(probe, probe)}: {describe(code)}"
            return Finding(tier, layer, "missing", detail, remedies.for_probe(probe, code, facts))
    return _beyond_the_probes(tier, layer, facts)


_NAMES: Final = {
    "user-ns": "unshare(CLONE_NEWUSER)",
    "id-map": "writing /proc/self/uid_map in a new user namespace",
    "identity": "giving up root with the interpreter still in reach",
    "host-name": "sethostname in a new namespace",
    "private-mounts": "mount(MS_PRIVATE) in a new namespace",
    "tmpfs": "mounting a tmpfs in a new namespace",
    "observe": "holding a system call (SECCOMP_FILTER_FLAG_NEW_LISTENER, …_CONTINUE)",
    "seccomp": "loading a system-call filter",
    "children": "listing a process's children (/proc/PID/task/TID/children)",
    "session": "setsid, PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER",
    "bounding-set": "emptying the bounding set and locking it",
    "execveat": "execveat of an open file",
}


def describe(code: int) -> str:
    """An errno by its name, or the signal that ended the probe."""
    if code < 0:
        ended = signal.Signals(-code).name
        more = ": a filter around this process kills" if ended == "SIGSYS" else ""
        return f"ended by {ended}{more}" if ended != "SIGALRM" else "no answer in time"
    return errno.errorcode.get(code, f"errno {code}") if code != errno.EPROTO else "it had no effect"


def _beyond_the_probes(tier: str, layer: str, facts: Facts) -> Finding:
    """All probes of the layer worked: is it as strong as it can be?"""
    if layer == "seccomp" and facts.libseccomp:
        return Finding(tier, layer, "missing", facts.libseccomp, remedies.libseccomp(facts))
    weak = {
        "rootfs": _weaker_rootfs,
        "landlock": _weaker_landlock,
        "rlimits": _weaker_limits,
        "supervisor": _weaker_processes,
        "identity": _weaker_identity,
    }.get(layer)
    found = weak(tier, facts) if weak else None
    return found or Finding(tier, layer, "ok")


def _weaker_rootfs(tier: str, facts: Facts) -> Finding | None:
    code = facts.tried.get("proc", 0)
    if not code:
        return None
    text = f"a fresh /proc cannot be mounted ({describe(code)}): jobs have none"
    return Finding(tier, "rootfs", "weaker", text, remedies.masked_proc(facts))


def _weaker_landlock(tier: str, facts: Facts) -> Finding | None:
    version = facts.numbers.get("landlock", 0)
    lacks = [f"{what} (Linux {since})" for least, since, what in _LANDLOCK if version < least]
    if not lacks:
        return None
    text = f"version {version} of its interface; it does not yet {'; '.join(lacks)}"
    return Finding(tier, "landlock", "weaker", text, remedies.newer_kernel(facts, "6.12"))


def _weaker_limits(tier: str, facts: Facts) -> Finding | None:
    most = facts.numbers.get("nofile", -1)
    if 0 <= most < _LEAST_OPEN_FILES:
        text = f"the hard limit on open files is {most}; {_LEAST_OPEN_FILES} are needed to start a program "
        text += "under a profile that starts no other (strictest, model-loader)"
        return Finding(tier, "rlimits", "weaker", text, remedies.open_files(facts))
    return None


def _weaker_processes(tier: str, facts: Facts) -> Finding | None:
    most, used = facts.numbers.get("nproc", -1), facts.numbers.get("tasks", 0)
    if facts.is_root or most < 0 or most - used >= _LEAST_PROCESSES:
        return None
    text = (
        f"this user may have {most} processes and has {used}: jobs may not get the processes they are allowed"
    )
    return Finding(tier, "supervisor", "weaker", text, remedies.processes(facts))


def _weaker_identity(tier: str, facts: Facts) -> Finding | None:
    code = facts.tried.get("mapped-mounts", 0)
    if tier != "full" or not facts.is_root or not code:
        return None
    text = f"root's folders cannot be mapped to a job's user ({describe(code)}): no workdir as root"
    return Finding(tier, "identity", "weaker", text, remedies.mapped_mounts(facts))


def notes(facts: Facts) -> tuple[str, ...]:
    """What is no layer, and worth knowing."""
    found = []
    if facts.machine not in _MACHINES:
        found.append(f"confinement knows {' and '.join(_MACHINES)}; this machine is {facts.machine}")
    if facts.container:
        found.append(f"this is a container ({facts.container})")
    if facts.is_filtered:
        found.append("a system-call filter of somebody else's lies over this process")
    if facts.delegated_cgroup:
        found.append(f"a cgroup is delegated to this user: {facts.delegated_cgroup}")
    else:
        found.append(
            "no cgroup is delegated to this user: the supervisor adds up memory and processes itself"
        )
    if facts.memory_limit_bytes:
        found.append(f"a cgroup bounds this process and all jobs to {facts.memory_limit_bytes >> 20} MiB")
    else:
        found.append(
            "no cgroup bounds the memory of this process: what the kernel holds for jobs (sockets, pipes) is "
            "not counted; `systemd-run --user --scope -p MemoryMax=2G -p TasksMax=512 COMMAND` does"
        )
    return tuple(found)


def is_confinable(findings: tuple[Finding, ...]) -> bool:
    """True if no layer is missing."""
    return bool(findings) and not any(finding.is_missing for finding in findings)
