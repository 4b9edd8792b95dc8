"""The layers by name, and what to do about one that this host does not give."""

from __future__ import annotations

from typing import Final

from fumehood.errors import ConfinementError

_NAMESPACES: Final = (
    "Allow unprivileged user namespaces (`fumehood sandbox doctor` says how on this host: an AppArmor "
    "profile on Ubuntu, user.max_user_namespaces above 0, a container's seccomp profile that allows unshare "
    "and mount), or accept the tier no-userns."
)
_MOUNTS: Final = _NAMESPACES + " Linux 5.12 or later is needed (mount_setattr)."
#: Layer to remedy, on any host. `fumehood sandbox doctor` knows better ones for this host (`remedies`).
REMEDIES: Final = {
    "identity": "Start the process as an ordinary user, or with an interpreter that every user can reach.",
    "user-ns": _NAMESPACES,
    "mount-ns": _NAMESPACES,
    "pid-ns": _NAMESPACES,
    "net-ns": _NAMESPACES,
    "ipc-ns": _NAMESPACES,
    "uts-ns": _NAMESPACES,
    "cgroup-ns": _NAMESPACES,
    "rootfs": _MOUNTS,
    "rlimits": "Raise the hard limits of the calling process (`ulimit -Hn` 2048 or more).",
    "landlock": "Use Linux 5.13 or later with landlock among the active LSMs (lsm=landlock,…).",
    "capabilities": "The kernel refused to give up capabilities; look at a surrounding sandbox.",
    "no-new-privs": "The kernel refused no_new_privs; look at a surrounding sandbox.",
    "seccomp": "Use a kernel with CONFIG_SECCOMP_FILTER; a surrounding sandbox may forbid it.",
    "observe": "Use Linux 5.5 or later; a surrounding sandbox may hold the only listener.",
    "supervisor": "Look at the limits on processes, open files and file sizes (`ulimit -a`), and at a "
    "surrounding sandbox; Linux 5.9 or later is needed.",
    "processes": "The limit on processes of this user is reached; end some, or raise it.",
    "queue": "Wait for some to end, or start fewer at once.",
    "profile": "Correct the profile; `fumehood sandbox explain PROFILE` prints one.",
    "jail": "This is a fault of Fumehood; please report it with the text above.",
}


def missing(layer: str, text: str) -> ConfinementError:
    """The error that says which layer is missing and how to get it."""
    return ConfinementError(f"this host refused: {text}", layer=layer, remedy=REMEDIES[layer])
