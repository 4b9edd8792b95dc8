"""What a job may not change at the top of a folder that it may write.

The caller's own tools later obey entries whose names begin with a dot: `.git` (hooks, configuration),
`.envrc`, `.bashrc`, `.ssh`, `.vscode`, `.github`. Those that exist are kept read-only: mounts lie on them, so
they cannot be written, removed, renamed or replaced. A mount needs something to lie on: what is not there,
and what is a link, the job may make or replace.

May not know: jails, mounts; it lists folders, and answers with paths.
"""

# a path here is checked text
# ruff: noqa: PTH112, PTH118

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from fumehood.errors import ConfinementError

if TYPE_CHECKING:
    from fumehood.confine.profile import Profile

#: What tools inside fill, and no tool outside obeys.
CACHES: Final = (".coverage", ".fontconfig", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache")
_MOST: Final = 100  # each is a mount of its own, and as root a descriptor in one message


def kept_names(names: Iterable[str]) -> tuple[str, ...]:
    """Those of *names* that are kept, sorted."""
    return tuple(sorted(name for name in names if name.startswith(".") and name not in CACHES))


def kept_in(folder: str) -> tuple[str, ...]:
    """The paths of the files and folders at the top of *folder* that a job may not change.

    Raises:
        ConfinementError: there are more than can be covered, or the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if not e.is_symlink() and (e.is_dir() or e.is_file())]
    except OSError as error:
        raise ConfinementError(
            f"the working folder cannot be listed: {error}", layer="profile", remedy="Name a folder of yours."
        ) from error
    found = kept_names(names)
    if len(found) > _MOST:
        raise ConfinementError(
            f"{folder} holds {len(found)} entries that begin with a dot; at most {_MOST} can be covered",
            layer="profile",
            remedy="Name a smaller folder.",
        )
    return tuple(os.path.join(folder, name) for name in found)


def protected(profile: Profile, workdir: str | os.PathLike[str] | None) -> Profile:
    """*profile* that keeps what is to be kept in *workdir* and in `write`; what `write` names is not.

    Raises:
        ConfinementError: as `kept_in`.
    """
    folders = [*profile.write, *([os.path.realpath(workdir)] if workdir is not None else [])]
    found = [path for folder in folders if os.path.isdir(folder) for path in kept_in(folder)]
    return profile.model_copy(update={"keep": (*profile.keep, *found)}) if found else profile


def below(folder: str, paths: Iterable[str]) -> frozenset[str]:
    """Those of *paths* that lie inside *folder*, as they are called from there."""
    start = folder.rstrip("/") + "/"
    return frozenset(path.removeprefix(start) for path in paths if path.startswith(start))
