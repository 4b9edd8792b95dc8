"""Landlock: what a process may do below which paths, enforced by the kernel over its own rights.

It is defence in depth under the namespaces of the `full` tier and the file barrier of `no-userns`. It does
not cover chmod, chown, utime, xattr and stat, nor UDP: the seccomp filter does.

Source: landlock(7), include/uapi/linux/landlock.h up to ABI 7.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Container, Iterable
from typing import Final

from fumehood.confine import syscalls
from fumehood.confine.sequence import Cell, Sequence

EXECUTE: Final = 1 << 0
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
TRUNCATE: Final = 1 << 14
IOCTL_DEV: Final = 1 << 15
_MAKE_CHAR, _MAKE_SOCK, _MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 11
_FILE_RIGHTS: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

READ: Final = READ_FILE | READ_DIR
_RULE_PATH_BENEATH: Final = 1
_CREATE_VERSION: Final = 1
#: Rights over files that each ABI knows: index is the ABI.
_KNOWN_FS: Final = (0, 0x1FFF, 0x3FFF, 0x7FFF, 0x7FFF, 0xFFFF)
_NEWEST_FS: Final = 0xFFFF
_NET_TCP: Final = 0b11  # bind, connect: ABI 4
_SCOPES: Final = 0b11  # abstract Unix sockets, signals: ABI 6


def abi() -> int:
    """The kernel's Landlock version; 0 where there is none or it is switched off."""
    try:
        return syscalls.call("landlock_create_ruleset", None, 0, _CREATE_VERSION)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


def known_rights(version: int) -> int:
    """Every right over files that Landlock *version* knows."""
    return _KNOWN_FS[version] if version < len(_KNOWN_FS) else _NEWEST_FS


def write_rights(version: int) -> int:
    """Everything below a private folder except executing, devices and listening sockets."""
    return known_rights(version) & ~(EXECUTE | IOCTL_DEV | _MAKE_CHAR | _MAKE_SOCK | _MAKE_BLOCK)


def scopes_signals(version: int) -> bool:
    """True if the kernel keeps signals inside the domain (ABI 6)."""
    return version >= 6


def _attributes(version: int) -> bytes:
    """What a ruleset of this *version* forbids wherever no rule allows it."""
    fields = (known_rights(version), _NET_TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    return struct.pack("=QQQ", *fields)[:size]


def _ruleset(version: int) -> int:
    body = _attributes(version)
    attr = ctypes.create_string_buffer(body, len(body))
    return syscalls.call("landlock_create_ruleset", ctypes.byref(attr), len(body), 0)


def _allow(ruleset: int, path: str | int, rights: int) -> None:
    fd = path if isinstance(path, int) else os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _FILE_RIGHTS
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, fd), 12)
        syscalls.call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        if fd != path:
            os.close(fd)


def prepare(rules: Iterable[tuple[str | int, int]], *, version: int) -> int:
    """A ruleset for `put_on`: no right but those that *rules* grant below a path (or an open descriptor).

    Raises OSError if the kernel refuses; a path that does not exist is an error.
    """
    ruleset = _ruleset(version)
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & known_rights(version))
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def write_down(
    calls: Sequence, rules: Iterable[tuple[str, int]], *, version: int, folders: Container[str], into: Cell
) -> None:
    """As `prepare`, in a sequence of system calls; which of the paths are *folders* is known before."""
    body = _attributes(version)
    ruleset = calls.add("landlock", "landlock_create_ruleset", body, len(body), 0, into=into)
    for path, rights in rules:
        possible = known_rights(version) & (-1 if path in folders else _FILE_RIGHTS)
        rule = calls.buffer(struct.pack("=Qq", rights & possible, -1))
        file, mode = Cell(rule + 8), os.O_PATH | os.O_CLOEXEC
        calls.add("landlock", "openat", syscalls.AT_FDCWD, path, mode, 0, into=file)
        calls.add("landlock", "landlock_add_rule", ruleset, _RULE_PATH_BENEATH, rule, 0)
        calls.add("landlock", "close", file)


def put_on(ruleset: int) -> None:
    """Give up, for good, every right that *ruleset* does not grant; closes it. `no_new_privs` must be on."""
    try:
        syscalls.call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def restrict(rules: Iterable[tuple[str | int, int]], *, version: int) -> None:
    """`prepare` and `put_on` in one."""
    put_on(prepare(rules, version=version))
