"""The system-call filter compiled to BPF through libseccomp, once per process and off the hot path.

`filters` says what a filter holds; the child loads the bytes with the raw system call
(`syscalls.load_filter`). This is the only file that imports pyseccomp.
"""

from __future__ import annotations

import errno
import os
from functools import lru_cache
from typing import Final

from fumehood.confine.filters import (
    EXEC_ONCE_FD,
    OBSERVED,
    Answer,
    FilterSpec,
    Match,
    Rule,
    farewell_rules,
    observed_rules,
    rules,
)
from fumehood.errors import ConfinementError

__all__ = [
    "EXEC_ONCE_FD",
    "OBSERVED",
    "Answer",
    "FilterSpec",
    "Match",
    "Rule",
    "allowed_calls",
    "compile_farewell",
    "compile_filter",
    "compile_observer",
    "compile_rules",
    "observed_numbers",
    "observed_rules",
    "rules",
]

#: A call is looked up by halves instead of from the top: fewer steps for those whose arguments are checked.
_BINARY_TREE: Final = 2
#: Calls that older releases of libseccomp cannot name. From 424 on numbers are the same on every machine.
_NEWER: Final = {
    "pidfd_open": 434,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "faccessat2": 439,
    "process_madvise": 440,
    "epoll_pwait2": 441,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
    "memfd_secret": 447,
    "fchmodat2": 452,
}


def allowed_calls(spec: FilterSpec) -> tuple[str, ...]:
    """All calls of this machine that *spec* lets pass, some of them only with certain arguments."""
    import pyseccomp

    names = sorted({rule.name for rule in rules(spec) if rule.answer is Answer.ALLOW})
    native = pyseccomp.Arch.NATIVE
    return tuple(name for name in names if _number(name, pyseccomp.resolve_syscall(native, name)) >= 0)


@lru_cache(maxsize=32)
def compile_filter(spec: FilterSpec) -> bytes:
    """The BPF program of *spec* for this machine.

    Raises:
        ConfinementError: libseccomp is missing, or does not know a call that a rule names.
    """
    return compile_rules(rules(spec), default=Answer.ENOSYS)


@lru_cache(maxsize=32)
def compile_observer(spec: FilterSpec) -> bytes:
    """The BPF program that hands the held calls of *spec* to the supervisor; empty where it holds none."""
    held = observed_rules(spec)
    return compile_rules(held, default=Answer.ALLOW) if held else b""


@lru_cache(maxsize=1)
def compile_farewell() -> bytes:
    """The BPF program that lets the supervisor hear of the end of a job's source before it is complete."""
    return compile_rules(farewell_rules(), default=Answer.ALLOW)


def observed_numbers() -> tuple[tuple[int, str], ...]:
    """The observed calls as this machine numbers them."""
    import pyseccomp

    found = [(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name), name) for name in OBSERVED]
    return tuple((number, name) for number, name in found if number >= 0)


def compile_rules(wanted: tuple[Rule, ...], *, default: Answer) -> bytes:
    """Compile *wanted* with libseccomp; calls that match none get *default*."""
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError) as error:
        raise ConfinementError(
            f"the filter compiler cannot be loaded: {error}",
            layer="seccomp",
            remedy="Install libseccomp (Debian and Ubuntu: apt install libseccomp2; Fedora: libseccomp).",
        ) from error
    answers = {
        Answer.ALLOW: pyseccomp.ALLOW,
        Answer.EPERM: pyseccomp.ERRNO(errno.EPERM),
        Answer.ENOSYS: pyseccomp.ERRNO(errno.ENOSYS),
        Answer.NOTIFY: pyseccomp.NOTIFY,
    }
    compiler = pyseccomp.SyscallFilter(answers[default])
    compiler.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)
    compiler.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, _BINARY_TREE)
    for rule in wanted:
        number = _number(rule.name, pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, rule.name))
        if number < 0 or rule.answer is default:  # a call of another architecture; nothing to add
            continue
        where = [pyseccomp.Arg(m.index, pyseccomp.MASKED_EQ, m.mask, m.value) for m in rule.where]
        compiler.add_rule_exactly(answers[rule.answer], number, *where)
    return _export(compiler)


def _number(name: str, resolved: int) -> int:
    """The number of a call, negative if this machine has none of that name.

    libseccomp answers -1 to a name it does not know; a misspelt rule would silently not exist.
    """
    number = _NEWER.get(name, -1) if resolved == -1 else resolved
    if number == -1:
        raise ConfinementError(
            f"libseccomp knows no system call named {name!r}",
            layer="seccomp",
            remedy="Correct the name, or install a newer libseccomp (2.5 or later).",
        )
    return number


def _export(compiler: object) -> bytes:
    with os.fdopen(os.memfd_create("bpf", os.MFD_CLOEXEC), "w+b") as file:
        compiler.export_bpf(file)  # type: ignore[attr-defined]
        file.seek(0)
        return file.read()
