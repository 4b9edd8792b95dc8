"""Giving up root: which user a confined process becomes, and becoming it.

Root inside a user namespace, whatever it maps to, still reads and writes root's files. So a root caller's
processes become an ordinary user before anything else is done.
"""

from __future__ import annotations

import os
from typing import Final

from fumehood.errors import ConfinementError

#: User ids that systemd's table (systemd.io/UIDS-GIDS) leaves unused, so that nobody owns files as one.
_FIRST_UNUSED: Final = 0x7000_0000
_NOBODY: Final = 65534
_REMEDY: Final = "Start the process as an ordinary user, or give it CAP_SETUID and CAP_SETGID."


def unprivileged_id(seed: int, *, uid_map: str, gid_map: str) -> int:
    """An id that is nobody's: one of the unused range where this namespace maps it, else 65534.

    *uid_map* and *gid_map* are the texts of /proc/self/uid_map and gid_map.

    Raises:
        ConfinementError: neither is mapped.
    """
    for candidate in (_FIRST_UNUSED + seed % 0x100_0000, _NOBODY):
        if _is_mapped(candidate, uid_map) and _is_mapped(candidate, gid_map):
            return candidate
    raise ConfinementError("no unprivileged user id is mapped here", layer="identity", remedy=_REMEDY)


def _is_mapped(number: int, table: str) -> bool:
    rows = (tuple(map(int, line.split())) for line in table.splitlines())
    return any(first <= number < first + count for first, _, count in rows)


def current_maps() -> tuple[str, str]:
    """This process's uid and gid maps."""
    with (
        open("/proc/self/uid_map", encoding="ascii") as uids,  # noqa: PTH123 — no path objects here
        open("/proc/self/gid_map", encoding="ascii") as gids,  # noqa: PTH123
    ):
        return uids.read(), gids.read()


def is_privileged() -> bool:
    """True if any of this process's user ids is root."""
    return 0 in os.getresuid() or 0 in os.getresgid()


def give_up_root(identity: int) -> None:
    """Become *identity* for good: groups, group ids, user ids. No capability is left.

    Raises:
        ConfinementError: the kernel refused, or the change can be undone.
    """
    try:
        os.setgroups([])
        os.setresgid(identity, identity, identity)
        os.setresuid(identity, identity, identity)
    except OSError as error:
        message = f"root cannot be given up: {error}"
        raise ConfinementError(message, layer="identity", remedy=_REMEDY) from error
    if is_privileged() or os.getresuid() != (identity,) * 3:
        raise ConfinementError("root was given up only in part", layer="identity", remedy=_REMEDY)
