"""Modules that a test writes, to be imported here and inside a jail."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

_NUMBER = itertools.count()


class Written:
    """A package of one test's in a folder that any user may read; `name` is unique."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"written{os.getpid()}x{next(_NUMBER)}"

    def add(self, files: Mapping[str, str]) -> None:
        """Write *files*, by their path below the package's folder; PACKAGE in them is the package's name."""
        for path, text in files.items():
            target = self.folder / self.name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text.replace("PACKAGE", self.name))

    def module(self, name: str = "") -> ModuleType:
        """Import it here."""
        return importlib.import_module(f"{self.name}.{name}" if name else self.name)


@contextlib.contextmanager
def written(**files: str) -> Iterator[Written]:
    """A package with an empty `__init__.py` and *files* (`tools=…` is tools.py), importable here."""
    with tempfile.TemporaryDirectory(prefix="fh-written-") as folder:
        os.chmod(folder, 0o755)
        package = Written(Path(folder))
        package.add({"__init__.py": "", **{f"{name}.py": text for name, text in files.items()}})
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        try:
            yield package
        finally:
            sys.path.remove(folder)
            for name in [n for n in sys.modules if n.split(".")[0] == package.name]:
                del sys.modules[name]
