"""What is known about this host: read from its files, and tried in children (`probes`). Values, no judgement.

`diagnosis` turns them into findings; it can be given facts of any host, invented ones included.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

#: Settings of the kernel that decide about namespaces, where this kernel has them.
_SYSCTLS: Final = (
    "kernel.unprivileged_userns_clone",  # Debian and its kin
    "kernel.apparmor_restrict_unprivileged_userns",  # Ubuntu
    "user.max_user_namespaces",
    "user.max_mnt_namespaces",
    "user.max_pid_namespaces",
    "user.max_net_namespaces",
    "user.max_ipc_namespaces",
    "user.max_uts_namespaces",
    "user.max_cgroup_namespaces",
)
_OS_RELEASE: Final = ("/etc/os-release", "/usr/lib/os-release")
#: A file that a container runtime leaves, and what it says.
_CONTAINER_MARKS: Final = (
    ("/run/.containerenv", "podman"),
    ("/.dockerenv", "docker"),
    ("/var/run/secrets/kubernetes.io", "kubernetes"),
)


@dataclass(frozen=True, slots=True)
class Facts:
    """One host. `tried` maps a probe to its errno (0: it worked; below 0: a signal ended it).

    What is not in `tried` could not be tried, as an earlier step that it needs had failed. `numbers` holds
    `landlock` (its ABI), `nofile` and `nproc` (hard limits, -1 for none), and `tasks` of this user.
    """

    distribution: str = ""  # ID of os-release
    like: tuple[str, ...] = ()
    version: str = ""
    title: str = ""
    kernel: str = ""
    machine: str = ""
    container: str = ""
    is_root: bool = False
    interpreter: str = ""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    lsms: tuple[str, ...] = ()
    apparmor: str = ""
    is_filtered: bool = False  # somebody else's system-call filter lies over this process
    libseccomp: str = ""  # why the filter compiler cannot be loaded
    memory_limit_bytes: int = 0  # of the cgroup around this process; 0 for none
    delegated_cgroup: str = ""  # one of version 2 that this user may divide, with memory and pids
    tried: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)

    def family(self) -> str:
        """The distribution whose tools and files this one shares; "" where that is not known."""
        for name in (self.distribution, *self.like):
            if name in ("debian", "ubuntu", "fedora", "rhel", "arch", "alpine", "suse", "opensuse"):
                return {"rhel": "fedora", "opensuse": "suse"}.get(name, name)
        return ""

    def is_older_than(self, major: int, minor: int) -> bool:
        """True if the kernel says a smaller number. Distributions port back: for remedies only."""
        found = re.match(r"(\d+)\.(\d+)", self.kernel)
        return found is not None and (int(found[1]), int(found[2])) < (major, minor)


def from_files(root: str = "/") -> Facts:
    """All that needs no trying. *root* is the folder that holds etc, proc and sys."""
    system = parse_os_release(_first_text(root, *_OS_RELEASE))
    status = _status(_text(root, "/proc/self/status"))
    return Facts(
        distribution=system.get("ID", "linux"),
        like=tuple(system.get("ID_LIKE", "").split()),
        version=system.get("VERSION_ID", ""),
        title=system.get("PRETTY_NAME", system.get("NAME", "Linux")),
        kernel=platform.release(),
        machine=platform.machine(),
        container=_container(root),
        is_root=os.geteuid() == 0,
        interpreter=str(Path(sys.executable).resolve()),
        sysctls={name: found for name in _SYSCTLS if (found := _sysctl(root, name))},
        lsms=tuple(filter(None, _text(root, "/sys/kernel/security/lsm").strip().split(","))),
        apparmor=_text(root, "/proc/self/attr/apparmor/current").strip("\0\n "),
        is_filtered=status.get("Seccomp", "0") == "2",
        libseccomp=compiler_fault(),
        memory_limit_bytes=_memory_limit(root),
        delegated_cgroup=_delegated_cgroup(root),
    )


def parse_os_release(text: str) -> dict[str, str]:
    """os-release(5): shell assignments. A line that is none is left out."""
    found = {}
    for line in text.splitlines():
        name, is_set, value = line.strip().partition("=")
        if is_set and re.fullmatch("[A-Z_][A-Z0-9_]*", name):
            try:
                found[name] = "".join(shlex.split(value, posix=True))
            except ValueError:  # an open quotation
                continue
    return found


def _text(root: str, path: str) -> str:
    """What the file says; "" where there is none, or none for us."""
    try:
        return (Path(root) / path.lstrip("/")).read_text("utf-8", "replace")
    except OSError:
        return ""


def _first_text(root: str, *paths: str) -> str:
    return next((text for path in paths if (text := _text(root, path))), "")


def _sysctl(root: str, name: str) -> str:
    return _text(root, "/proc/sys/" + name.replace(".", "/")).strip()


def _status(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _container(root: str) -> str:
    for path, name in _CONTAINER_MARKS:
        if (Path(root) / path.lstrip("/")).exists():
            return name
    return _text(root, "/run/systemd/container").strip()  # lxc, systemd-nspawn and others


def _memory_limit(root: str) -> int:
    """The least `memory.max` (or v1's limit) from this process's cgroup upwards; 0 where there is none."""
    found = []
    for line in _text(root, "/proc/self/cgroup").splitlines():
        number, names, path = line.split(":", 2)
        base = "/sys/fs/cgroup/memory" if "memory" in names.split(",") else "/sys/fs/cgroup"
        file = "memory.limit_in_bytes" if base.endswith("memory") else "memory.max"
        if base.endswith("memory") or number == "0":
            folders = [path, *map(str, Path(path).parents)]
            found += [_text(root, f"{base}/{folder}/{file}").strip() for folder in folders]
    limits = [int(text) for text in found if text.isdigit() and int(text) < 1 << 60]
    return min(limits, default=0)


def _delegated_cgroup(root: str) -> str:
    """This process's own, if version 2 is mounted, it may make others below, and they would count."""
    paths = [
        line.split(":", 2)[2] for line in _text(root, "/proc/self/cgroup").splitlines() if line[:2] == "0:"
    ]
    for path in paths:
        where = f"/sys/fs/cgroup{path.rstrip('/')}"
        controllers = _text(root, f"{where}/cgroup.controllers").split()
        is_ours = os.access(Path(root) / where.lstrip("/"), os.W_OK | os.X_OK)
        if is_ours and {"memory", "pids"} <= set(controllers):
            return where
    return ""


def compiler_fault() -> str:
    """Why no filter can be compiled; "" where one can."""
    from fumehood.confine.seccomp import Answer, Rule, compile_rules
    from fumehood.errors import ConfinementError

    try:
        compile_rules((Rule("getpid", Answer.EPERM),), default=Answer.ALLOW)
    except (ConfinementError, OSError) as error:
        return str(error)
    return ""
