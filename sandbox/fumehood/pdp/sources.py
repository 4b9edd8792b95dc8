"""Reads policy sources: folders, and names of packs. Knows nothing of what a policy may say.

A name without "/" is a pack of `fumehood_policies`, never a folder, so that a folder that happens to
be called like a pack can never take its place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import fumehood_policies
from fumehood.errors import ConfigError, Problem
from fumehood.pdp.archive import is_archive
from fumehood.pdp.keys import Keys
from fumehood.pdp.manifest import MANIFEST
from fumehood.pdp.packed import Packed, claimed, is_packed, open_packed
from fumehood.pdp.signatures import SIGNATURES

__all__ = [
    "MAX_FILE_BYTES",
    "Files",
    "PolicyFile",
    "embedded_library",
    "library",
    "pack_names",
    "read",
    "stamp",
]

MAX_FILE_BYTES = 1 << 20  # what regorus accepts
_MAX_FILES = 2000
_ASIDE = (MANIFEST, SIGNATURES)
_SUFFIXES = (".rego", ".json", ".yaml", ".yml")
_OURS = re.compile(r"^package[ \t]+fumehood\b", re.MULTILINE)
_OLD = "Build the bundle anew with this version, `fumehood policy build`; no other policy is in `fumehood`."
_REMEDY = "Write UTF-8 text under 1 MiB."

Source = str | os.PathLike[str]
Stamp = tuple[tuple[str, int, int, int], ...]


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
    """What was read, sorted by name, what could not be read, and the bundles by their `source`."""

    files: tuple[PolicyFile, ...]
    problems: tuple[Problem, ...] = ()
    bundles: Mapping[str, Packed] = field(default_factory=dict)


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


def read(sources: Sequence[Source], keys: Keys = (), *, is_trusted: bool = False) -> Files:
    """Every policy, test and data file of *sources*; with *keys*, of those that are signed with one of them.

    With *is_trusted* signatures are not verified: to look at a bundle, never to decide with it.

    Raises:
        ConfigError: no source is given, one is neither a pack nor a folder nor a bundle, or its signature
            does not verify.
    """
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    if not sources:
        raise ConfigError(f"no policy is given; name a folder (./policies) or a pack ({_packs()})")
    files: list[PolicyFile] = []
    problems: list[Problem] = []
    bundles: dict[str, Packed] = {}
    for label, root in _labelled(sources):
        if root.parent != fumehood_policies.PACKS and is_packed(root, has_keys=bool(keys)):
            bundles[label] = packed = open_packed(root, keys, is_trusted=is_trusted)
            _read_packed(packed, label, is_archive=root.is_file(), files=files, problems=problems)
            continue
        for path in _walk(root):
            _read_one(path, root, label, files, problems)
    if len(files) > _MAX_FILES:
        raise ConfigError(f"{len(files)} policy files; at most {_MAX_FILES} are loaded")
    return Files(_apart(files), tuple(problems), bundles)


def stamp(sources: Sequence[Source]) -> Stamp:
    """What changes when a file of *sources* does: (path, time, size, inode) of each, without reading any."""
    found: list[tuple[str, int, int, int]] = []
    for source in sources:
        try:
            found += map(_stamp_of, _watched(_root(source)))
        except ConfigError:  # nothing any more
            found.append(_stamp_of(Path(source)))
    return tuple(found)


def _watched(root: Path) -> Iterable[Path]:
    """A bundle, or what a folder has that can change what is loaded: signatures and manifest, too."""
    return (
        (root,) if root.is_file() else (*_walk(root), *(p for p in map(root.joinpath, _ASIDE) if p.exists()))
    )


def _stamp_of(path: Path) -> tuple[str, int, int, int]:
    try:
        about = path.stat()
    except OSError:
        return str(path), 0, 0, 0
    return str(path), about.st_mtime_ns, about.st_size, about.st_ino


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
        taken = sum(1 for other in ("lib", *found.values()) if other.split("#")[0] == label)  # lib: ours
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
    if not root.is_dir() and not (is_archive(text) and root.is_file()):
        raise ConfigError(
            f"{text} is not a folder; expected a folder of .rego files, a bundle (.tar.gz), or a pack's name"
        )
    return root


def _walk(root: Path) -> Iterable[Path]:
    """The files below *root*; hidden ones, and links that lead out of it, are left out."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.endswith(_SUFFIXES):
                yield Path(folder) / name


def _read_one(path: Path, root: Path, label: str, files: list[PolicyFile], problems: list[Problem]) -> None:
    relative = path.relative_to(root)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"larger than {MAX_FILE_BYTES} bytes")
        text = path.read_bytes().decode()
    except (OSError, ValueError) as error:
        problems.append(Problem(str(path), 1, 1, f"cannot be read: {error}", _REMEDY))
        return
    files.append(PolicyFile(f"{label}/{relative.as_posix()}", str(path), text, label, relative.parent.parts))


def _read_packed(
    packed: Packed, label: str, *, is_archive: bool, files: list[PolicyFile], problems: list[Problem]
) -> None:
    """The files of a bundle but our library, which is loaded anyway. Those of an archive keep their names:
    what was built has the revision of what it was built from."""
    ours = {file.text for file in (*library(), *embedded_library())}
    for name, content in packed.files.items():
        inner = PurePosixPath(name)
        if any(part.startswith(".") for part in inner.parts) or inner.suffix not in _SUFFIXES:
            continue
        path = f"{packed.path}:{name}" if is_archive else str(Path(packed.path) / name)
        try:
            if len(content) > MAX_FILE_BYTES:
                raise ValueError(f"larger than {MAX_FILE_BYTES} bytes")
            text = content.decode()
        except ValueError as error:
            problems.append(Problem(path, 1, 1, f"cannot be read: {error}", _REMEDY))
            continue
        if text in ours or claimed(text):
            continue
        if _OURS.search(text) and inner.suffix == ".rego":
            problems.append(Problem(path, 1, 1, "is not the library of this version of Fumehood", _OLD))
            continue
        known = name if is_archive else f"{label}/{name}"
        files.append(PolicyFile(known, path, text, label, inner.parent.parts))


def _apart(files: Sequence[PolicyFile]) -> tuple[PolicyFile, ...]:
    """Sorted by name; what has the name of another, or of ours, gets a name of its own."""
    taken = {file.name for file in (*library(), *embedded_library())}
    found: list[PolicyFile] = []
    for file in files:
        name = file.name
        while name in taken:
            name = f"{file.source}/{name}"
        taken.add(name)
        found.append(file if name == file.name else replace(file, name=name))
    return tuple(sorted(found, key=lambda f: f.name))
