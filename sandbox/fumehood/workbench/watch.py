"""Waits for changes in folders, by looking at them: works on every file system, needs no library."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import fumehood_policies
from fumehood.pdp.manifest import MANIFEST
from fumehood.pdp.signatures import SIGNATURES

__all__ = ["changes", "folders_of"]

_INTERVAL_S = 0.3
Signature = frozenset[tuple[str, int, int, int]]


def folders_of(given: Sequence[str]) -> list[Path]:
    """The folders and bundles that sources are read from: a name without "/" is a pack."""
    names = fumehood_policies.OLD_NAMES
    packs = fumehood_policies.PACKS
    return [Path(source) if "/" in source else packs / names.get(source, source) for source in given]


def changes(folders: Sequence[Path], *, pause: Callable[[], None] | None = None) -> Iterator[None]:
    """Yields at the beginning, and each time that one of *folders*, or a file below it, has changed and is at
    rest."""
    wait = pause or (lambda: time.sleep(_INTERVAL_S))
    seen = _signature(folders)
    yield
    while True:
        wait()
        now = _signature(folders)
        if now == seen:
            continue
        while now != seen:  # an editor may write a file in several steps
            seen = now
            wait()
            now = _signature(folders)
        yield


def _signature(folders: Sequence[Path]) -> Signature:
    return frozenset(entry for folder in folders for entry in _entries(folder))


def _entries(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    for path in _files(folder):
        try:
            about = os.stat(path)  # noqa: PTH116 - many files, often
        except OSError:
            continue  # gone meanwhile: that is a change, too
        yield path, about.st_mtime_ns, about.st_size, about.st_ino


def _files(folder: Path) -> Iterator[str]:
    """A bundle; or what is below a folder, and what makes a folder a bundle."""
    yield from (str(path) for path in (folder, folder / SIGNATURES, folder / MANIFEST) if path.is_file())
    for where, names, files in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        yield from (os.path.join(where, name) for name in files if not name.startswith("."))  # noqa: PTH118
