"""The `.manifest` of an OPA bundle: its revision, the roots that it owns, and what its maker says of it.

Source: v1/bundle/bundle.go of OPA. What a manifest asks for and is not done
here (WebAssembly, Rego v0) is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from fumehood.canonical import JSON, canonical, parse
from fumehood.errors import BindError

__all__ = ["MANIFEST", "Manifest", "ManifestError", "outside", "read_manifest", "written"]

MANIFEST = ".manifest"
_KNOWN = frozenset({"revision", "roots", "wasm", "rego_version", "file_rego_versions", "metadata"})

Path = tuple[str, ...]


class ManifestError(Exception):
    """What is wrong, and what to do."""

    def __init__(self, message: str, *, remedy: str) -> None:
        self.remedy = remedy
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself. `roots` as they stand: "policies", "a/b"; "" is everything."""

    revision: str = ""
    roots: tuple[str, ...] = ("",)
    metadata: Mapping[str, JSON] = field(default_factory=dict)

    def owns(self, path: Path) -> bool:
        """True if *path* lies in one of the roots."""
        return any(path[: len(root)] == root for root in self._paths())

    def leads_to(self, path: Path) -> bool:
        """True if a root lies below *path*."""
        return any(root[: len(path)] == path for root in self._paths())

    def _paths(self) -> Iterator[Path]:
        return (_path(root) for root in self.roots)


def read_manifest(content: bytes) -> Manifest:
    """The manifest in *content*.

    Raises:
        ManifestError: it is none, or asks for what is not done here.
    """
    try:
        document = parse(content.decode())
    except (BindError, UnicodeError) as error:
        raise ManifestError(str(error), remedy="Correct the JSON.") from error
    if not isinstance(document, dict):
        raise ManifestError("not an object", remedy='Write {"revision": "…", "roots": ["policies"]}.')
    unknown = sorted(set(document) - _KNOWN)
    if unknown:
        raise ManifestError(f"`{unknown[0]}` is not known", remedy=f"Known are {', '.join(sorted(_KNOWN))}.")
    _refuse_what_is_not_done(document)
    revision, metadata = document.get("revision", ""), document.get("metadata") or {}
    if not isinstance(revision, str):
        raise ManifestError("`revision` is not a text", remedy="Quote it.")
    if not isinstance(metadata, dict):
        raise ManifestError("`metadata` is not an object", remedy="Write an object.")
    return Manifest(revision, _roots(document.get("roots")), metadata)


def written(manifest: Manifest) -> bytes:
    """*manifest* as a file; Rego v1 is said."""
    document: dict[str, JSON] = {
        "revision": manifest.revision,
        "roots": list(manifest.roots),
        "rego_version": 1,
        "metadata": dict(manifest.metadata),
    }
    return canonical(document) + b"\n"


def outside(manifest: Manifest, packages: Iterable[Path], data: Mapping[str, JSON]) -> Iterator[str]:
    """What the bundle has and its roots do not."""
    for package in packages:
        if not manifest.owns(package):
            yield f"the package {'.'.join(package)}"
    for path in _strays(manifest, dict(data), ()):
        yield f"the data at {'.'.join(path)}"


def _strays(manifest: Manifest, value: JSON, path: Path) -> Iterator[Path]:
    if path and manifest.owns(path):
        return
    if isinstance(value, dict) and manifest.leads_to(path):
        for name, item in value.items():
            yield from _strays(manifest, item, (*path, name))
    elif not manifest.owns(path):
        yield path


def _refuse_what_is_not_done(document: Mapping[str, JSON]) -> None:
    if document.get("wasm"):
        raise ManifestError(
            "`wasm`: WebAssembly is not run here", remedy="Build the bundle with `opa build --target rego`."
        )
    versions = document.get("file_rego_versions") or {}
    each = [document.get("rego_version", 1), *(versions.values() if isinstance(versions, dict) else [None])]
    if any(version != 1 or isinstance(version, bool) for version in each):
        raise ManifestError(
            "a version of Rego other than 1", remedy="Rewrite the policies: `opa fmt --write --v0-v1 FOLDER`."
        )


def _roots(found: JSON) -> tuple[str, ...]:
    if found is None:
        return ("",)
    if not isinstance(found, list) or not all(isinstance(root, str) for root in found):
        raise ManifestError("`roots` is not a list of texts", remedy='Write ["policies"].')
    roots = tuple(root.strip("/") for root in cast("list[str]", found))
    for i, one in enumerate(roots):
        for other in roots[i + 1 :]:
            if _overlap(_path(one), _path(other)):
                raise ManifestError(
                    f"the roots {one!r} and {other!r} overlap", remedy="Keep the shorter one."
                )
    return roots


def _overlap(one: Path, other: Path) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _path(root: str) -> Path:
    return tuple(root.split("/")) if root else ()
