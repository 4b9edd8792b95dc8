"""Reads policy sources: folders, and names of packs. Knows nothing of what a policy may say.

A name without "/" is a pack of `fumehood_policies`, never a folder, so that a folder that happens to
be called like a pack can never take its place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import fumehood_policies
from fumehood.errors import ConfigError, Problem

__all__ = ["MAX_FILE_BYTES", "Files", "PolicyFile", "embedded_library", "library", "pack_names", "read"]

MAX_FILE_BYTES = 1 << 20  # what regorus accepts
_MAX_FILES = 2000

Source = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """One text: `name` is stable across machines, `path` is what the user is shown, `folder` where
    data of this file would live (the folders between the source and the file)."""

    name: str
    path: str
    text: str
    source: str
    folder: tuple[str, ...] = ()

    @property
    def is_test(self) -> bool:
        return self.name.endswith("_test.rego")

    @property
    def is_rego(self) -> bool:
        return self.name.endswith(".rego")


@dataclass(frozen=True, slots=True)
class Files:
    """What was read, sorted by name, and what could not be read."""

    files: tuple[PolicyFile, ...]
    problems: tuple[Problem, ...] = ()


def pack_names() -> tuple[str, ...]:
    """The names of the packs that are installed."""
    return tuple(sorted(p.name for p in fumehood_policies.PACKS.iterdir() if p.is_dir()))


def library() -> tuple[PolicyFile, ...]:
    """The Rego that belongs to Fumehood: packages fumehood.main and fumehood.call."""
    return tuple(
        PolicyFile(f"lib/{path.name}", str(path), path.read_text(encoding="utf-8"), "lib")
        for path in sorted(fumehood_policies.LIBRARY.glob("*.rego"))
        if not path.name.endswith("_test.rego")
    )


def embedded_library() -> tuple[PolicyFile, ...]:
    """What the embedded engine gets beside it: built-ins that it would do differently."""
    return tuple(
        PolicyFile(f"lib/embedded/{path.name}", str(path), path.read_text(encoding="utf-8"), "lib")
        for path in sorted((fumehood_policies.LIBRARY / "embedded").glob("*.rego"))
    )


def read(sources: Sequence[Source]) -> Files:
    """Every policy, test and data file of *sources*.

    Raises:
        ConfigError: no source is given, or one is neither a pack nor a folder.
    """
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    if not sources:
        raise ConfigError(f"no policy is given; name a folder (./policies) or a pack ({_packs()})")
    files: list[PolicyFile] = []
    problems: list[Problem] = []
    for label, root in _labelled(sources):
        for path in _walk(root):
            _read_one(path, root, label, files, problems)
    if len(files) > _MAX_FILES:
        raise ConfigError(f"{len(files)} policy files; at most {_MAX_FILES} are loaded")
    return Files(tuple(sorted(files, key=lambda f: f.name)), tuple(problems))


def _packs() -> str:
    return ", ".join(pack_names())


def _labelled(sources: Sequence[Source]) -> list[tuple[str, Path]]:
    """Each source's folder under a label of its own; the same folder twice is read once."""
    found: dict[Path, str] = {}
    for source in sources:
        root = _root(source)
        if root.resolve() in {known.resolve() for known in found}:
            continue
        label = root.resolve().name or "policies"
        taken = sum(1 for other in found.values() if other.split("#")[0] == label)
        found[root] = f"{label}#{taken + 1}" if taken else label
    return [(label, root) for root, label in found.items()]


def _root(source: Source) -> Path:
    text = os.fspath(source)
    if isinstance(source, str) and "/" not in text:
        text = fumehood_policies.OLD_NAMES.get(text, text)
        if text not in pack_names():
            raise ConfigError(
                f"there is no pack {text!r} (there are: {_packs()}); for a folder write ./{text}"
            )
        return fumehood_policies.PACKS / text
    root = Path(text)
    if not root.is_dir():
        raise ConfigError(f"{text} is not a folder; expected a folder of .rego files, or a pack's name")
    return root


def _walk(root: Path) -> Iterable[Path]:
    """The files below *root*; hidden ones, and links that lead out of it, are left out."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.endswith((".rego", ".json", ".yaml", ".yml")):
                yield Path(folder) / name


def _read_one(path: Path, root: Path, label: str, files: list[PolicyFile], problems: list[Problem]) -> None:
    relative = path.relative_to(root)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"larger than {MAX_FILE_BYTES} bytes")
        text = path.read_bytes().decode()
    except (OSError, ValueError) as error:
        problems.append(Problem(str(path), 1, 1, f"cannot be read: {error}", "Write UTF-8 text under 1 MiB."))
        return
    files.append(PolicyFile(f"{label}/{relative.as_posix()}", str(path), text, label, relative.parent.parts))
