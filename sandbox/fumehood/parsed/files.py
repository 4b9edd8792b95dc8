"""What a path leads to on this host, at this moment: each step looked at, symbolic links named.

It is what the kernel would find now, not what it will find when the tool opens the file: a link can be
changed in between. Only confinement decides that. Sources: path_resolution(7), POSIX.1-2024 4.16.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from fumehood.canonical import JSON
from fumehood.parsed.words import Unparseable

__all__ = ["file_of"]

_MAX_LINKS = 40  # the kernel's own bound
_MAX_PATH = 4096
_MAX_STEPS = 1024
_MOVING = ("/proc", "/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr")  # differ from process to process
_TYPES = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "folder"))


def file_of(text: str, *, cwd: str | None) -> JSON:
    """`{leads_to, links, is_link, exists, type, in_home, in_workdir}` of a path, taken from *cwd*.

    Raises:
        Unparseable: with why.
    """
    if not text.startswith("/"):
        text = f"{cwd}/{text}"
    if len(text) > _MAX_PATH:
        raise Unparseable(f"it is longer than {_MAX_PATH} characters")
    walk = _Walk(_steps(text))
    walk.to_the_end()
    here = walk.here
    mode = _mode(here)
    home = _home()
    return {
        "leads_to": here,
        "links": list(walk.links),
        "is_link": walk.is_link,
        "exists": mode is not None,
        "type": "missing" if mode is None else _type(mode),
        "in_home": home is not None and is_below(here, home),
        "in_workdir": cwd is not None and is_below(here, os.path.realpath(cwd)),
    }


def is_below(path: str, folder: str) -> bool:
    """Whether *path* is *folder* or lies in it; both absolute and plain."""
    return path == folder or path.startswith(folder if folder.endswith("/") else folder + "/")


@dataclass(slots=True)
class _Walk:
    """A path being followed: what is still to do, last first, each with whether it is the path's own last."""

    todo: list[tuple[str, bool]]
    here: str = "/"
    links: list[str] = field(default_factory=list)
    is_link: bool = False
    is_missing: bool = False

    def to_the_end(self) -> None:
        for _ in range(_MAX_STEPS):
            if not self.todo:
                return
            part, is_last = self.todo.pop()
            if part == "..":
                self._up()
            else:
                self._into(part, is_last=is_last)
        raise Unparseable("it has too many steps")

    def _up(self) -> None:
        if self.is_missing:
            raise Unparseable("it climbs out of a folder that is not there")
        self.here = os.path.dirname(self.here)  # noqa: PTH120

    def _into(self, part: str, *, is_last: bool) -> None:
        self.here = f"{'' if self.here == '/' else self.here}/{part}"
        if self.here.startswith(_MOVING) and any(is_below(self.here, moving) for moving in _MOVING):
            raise Unparseable("it leads through a folder that each process sees differently")
        mode = None if self.is_missing else _mode(self.here)
        self.is_missing = mode is None
        if mode is not None and stat.S_ISLNK(mode):
            self._follow(is_last=is_last)
        elif mode is not None and self.todo and not stat.S_ISDIR(mode):
            raise Unparseable("a part of it is not a folder")

    def _follow(self, *, is_last: bool) -> None:
        self.links.append(self.here)
        self.is_link = self.is_link or is_last
        if len(self.links) > _MAX_LINKS:
            raise Unparseable("it leads through too many symbolic links")
        target = _target(self.here)
        self.here = "/" if target.startswith("/") else os.path.dirname(self.here)  # noqa: PTH120
        self.todo += [(part, False) for part, _ in _steps(target)]


def _steps(path: str) -> list[tuple[str, bool]]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return [(part, index == len(parts) - 1) for index, part in enumerate(parts)][::-1]


def _mode(path: str) -> int | None:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise Unparseable("this process may not look at where it leads") from None


def _target(link: str) -> str:
    try:
        target = os.readlink(link)  # noqa: PTH115
        target.encode()
    except UnicodeEncodeError:
        raise Unparseable("it leads to a name that is not UTF-8") from None
    except OSError:
        raise Unparseable("this process may not look at where it leads") from None
    return target


def _type(mode: int) -> str:
    return next((name for is_it, name in _TYPES if is_it(mode)), "special")


def _home() -> str | None:
    home = os.path.expanduser("~")  # noqa: PTH111
    return os.path.realpath(home) if home.startswith("/") and home != "/" else None
