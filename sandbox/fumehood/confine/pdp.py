"""Locking a policy worker in, from inside, once it has loaded everything.

The worker keeps what it has open and may reach nothing new: no file, no socket, no program, no process. It
needs no namespace, so that it works on every host. Called in a process of its own that was started by exec
and has one thread; there is no way back.
"""

from __future__ import annotations

import os
import resource
import signal
from typing import Final

from fumehood.confine import identity, landlock, syscalls
from fumehood.confine.seccomp import FilterSpec, compile_filter
from fumehood.errors import ConfinementError

_FILTER_REMEDY: Final = "The kernel needs CONFIG_SECCOMP_FILTER; a surrounding sandbox may forbid seccomp(2)."


def lock_down(
    *,
    memory_bytes: int | None = None,
    open_files: int = 64,
    cpu_s: int | None = None,
    parent_pid: int | None = None,
    filter_program: bytes | None = None,
) -> tuple[str, ...]:
    """Confine this process for the rest of its life. Returns the names of the layers that are now active.

    Everything must be imported, loaded and opened before. As root, root is given up first.
    *memory_bytes* bounds the address space (it must be more than the worker has mapped already); *cpu_s* is
    the processor time of its whole life. With *parent_pid* the worker dies when the **thread** that started
    it ends (prctl(2)), so pass it only if that thread lives as long as the worker should; the end of its
    socket is the sign that always works. *filter_program* is `compile_filter(FilterSpec(kind="pdp"))`, for
    those who compile once for several workers.

    Raises:
        ConfinementError: root, limits or filter. A missing Landlock is no error: it is not in the answer.
    """
    program = filter_program or compile_filter(FilterSpec(kind="pdp"))
    layers = [*_as_nobody(), *_limited(memory_bytes, open_files, cpu_s)]
    if parent_pid is not None:
        layers += _bound_to(parent_pid)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    layers += _no_privileges()
    layers += _no_files()
    try:
        syscalls.load_filter(program)
    except OSError as error:
        raise ConfinementError(
            f"the filter was refused: {error}", layer="seccomp", remedy=_FILTER_REMEDY
        ) from error
    return (*layers, "seccomp")


def _as_nobody() -> list[str]:
    if not identity.is_privileged():
        return ["identity"]
    uid_map, gid_map = identity.current_maps()
    identity.give_up_root(identity.unprivileged_id(os.getpid(), uid_map=uid_map, gid_map=gid_map))
    return ["identity"]


def _limited(memory_bytes: int | None, open_files: int, cpu_s: int | None) -> list[str]:
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: open_files}
    if memory_bytes is not None:
        wanted[resource.RLIMIT_AS] = memory_bytes
    if cpu_s is not None:
        wanted[resource.RLIMIT_CPU] = cpu_s
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bounded, bounded))
    return ["rlimits"]


def _bound_to(parent_pid: int) -> list[str]:
    """Last of what a change of user would clear; the parent may have ended just before."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise ConfinementError(
            "the process that started this worker has ended",
            layer="parent-death",
            remedy="Start the worker again from a process that is alive.",
        )
    return ["parent-death"]


def _no_privileges() -> list[str]:
    syscalls.clear_capabilities()
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    return ["no-new-privs"]


def _no_files() -> list[str]:
    version = landlock.abi()
    if not version:
        return []
    landlock.restrict((), version=version)
    return ["landlock"]
