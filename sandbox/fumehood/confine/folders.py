"""A job's private folder on the host's own disk, for the tier that has no memory file systems."""

# runs in the spawner and in jails, which load no pathlib
# ruff: noqa: PTH102, PTH106

from __future__ import annotations

import contextlib
import os


def make() -> str:
    """A new folder that only this user can enter."""
    path = f"/tmp/fumehood-{os.urandom(8).hex()}"  # noqa: S108 — made here, or an error
    os.mkdir(path, 0o700)
    return path


def remove(path: str) -> None:
    """Remove *path* and what is in it, by descriptor, following no link. What is gone is no error."""
    with contextlib.suppress(FileNotFoundError):
        for _, folders, files, here in os.fwalk(path, topdown=False, onerror=None):
            for name in files:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=here)
            for name in folders:
                _remove_entry(name, here)
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _remove_entry(name: str, here: int) -> None:
    """A folder, or a link to one, which `fwalk` counts among the folders."""
    try:
        os.rmdir(name, dir_fd=here)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=here)


def use(folder: str, *, most: int) -> tuple[int, int]:
    """Bytes and entries below *folder*, links not followed; stops counting beyond *most* entries."""
    size = count = 0
    waiting = [folder]
    while waiting and count <= most:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                count += 1
                with contextlib.suppress(FileNotFoundError):
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return size, count
