"""A source that is an OPA bundle: a `tar.gz`, or a folder that is signed. Its files, once they are verified.

Read once, into memory; what is verified is what is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fumehood.errors import ConfigError, Problem
from fumehood.pdp.archive import MAX_BYTES, MAX_FILES, ArchiveError, is_archive, read_archive
from fumehood.pdp.keys import Keys
from fumehood.pdp.manifest import MANIFEST, Manifest, ManifestError, read_manifest
from fumehood.pdp.signatures import SIGNATURES, Signature, SignatureError, unverified, verify

__all__ = ["CLAIM", "Packed", "claim", "claimed", "is_packed", "open_packed"]

CLAIM = "fumehood/bundle.rego"  # names the revision, for OPA
_CLAIM = re.compile(r'package fumehood\.bundle\n\nrevision := "(sha256:[0-9a-f]{64})"\n\Z')
_NOT_DONE = {
    "policy.wasm": "WebAssembly is not run here",
    "plan.json": "plans are not run here",
    "plan.pb": "plans are not run here",
    "patch.json": "a delta has nothing here that it could be applied to",
    ".manifest.pb": "a manifest in protobuf is not read here",
}


@dataclass(frozen=True, slots=True)
class Packed:
    """The files of a bundle, and what it says of itself. `signature` is None for one that is not signed."""

    path: str
    files: Mapping[str, bytes]
    manifest: Manifest | None
    signature: Signature | None


def claim(revision: str) -> str:
    """The Rego that says which bundle a server has; `data.fumehood.main.decision` carries it."""
    return f'package fumehood.bundle\n\nrevision := "{revision}"\n'


def claimed(text: str) -> str | None:
    """The revision in what `claim` wrote."""
    found = _CLAIM.match(text)
    return found[1] if found else None


def is_packed(root: Path, *, has_keys: bool) -> bool:
    """True if *root* is to be read as a bundle: an archive, or a folder with a manifest or signatures."""
    if root.is_file():
        return is_archive(root.name)
    return has_keys or any((root / name).exists() for name in (SIGNATURES, MANIFEST))


def open_packed(root: Path, keys: Keys, *, is_trusted: bool = False) -> Packed:
    """The bundle at *root*, verified if there are *keys*.

    With *is_trusted* signatures are read and not verified: to look at a bundle, never to decide with it.

    Raises:
        ConfigError: it cannot be read, or is not what was signed.
    """
    path = str(root)
    if root.is_file():
        files = _archived(path)
    else:
        files = _in_folder(root, is_signed=bool(keys) or (root / SIGNATURES).exists())
    try:
        signature = _signature(files, keys, root, is_trusted=is_trusted)
    except SignatureError as error:
        raise _refused(path, error.name, str(error), error.remedy) from error
    for name in files:
        _refuse_what_is_not_done(path, name)
    manifest = None
    if MANIFEST in files:
        try:
            manifest = read_manifest(files[MANIFEST])
        except ManifestError as error:
            raise _refused(path, MANIFEST, str(error), error.remedy) from error
    return Packed(path, files, manifest, signature)


def _signature(files: Mapping[str, bytes], keys: Keys, root: Path, *, is_trusted: bool) -> Signature | None:
    if keys:
        return verify(files, keys, prefixes=_prefixes(root))
    if SIGNATURES not in files:
        return None
    if is_trusted:
        return unverified(files)
    raise SignatureError(
        "the bundle is signed, and there is no key to verify it with",
        remedy='Give the public key: Guard(…, signed_by="release.pem"), or --verification-key.',
    )


def _prefixes(root: Path) -> tuple[str, ...]:
    """How the signature of a folder may begin its names: `opa sign` was given it from somewhere above."""
    if root.is_file():
        return ("",)
    parts = root.resolve().parts[1:]
    return (*("/".join(parts[i:]) + "/" for i in range(len(parts))), "")


def _archived(path: str) -> dict[str, bytes]:
    try:
        with Path(path).open("rb") as file:
            packed = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"the bundle {path} cannot be read: {error}") from error
    try:
        if len(packed) > MAX_BYTES:
            raise ArchiveError(f"has more than {MAX_BYTES >> 20} MiB", remedy="Keep large data out of it.")
        return read_archive(packed)
    except ArchiveError as error:
        raise _refused(path, error.name, str(error), error.remedy) from error


def _in_folder(root: Path, *, is_signed: bool) -> dict[str, bytes]:
    """Every file below *root*: a signature has to name each. Without one, those that are not hidden."""
    found: dict[str, bytes] = {}
    size = 0
    for path in _below(root, is_signed=is_signed):
        relative = path.relative_to(root).as_posix()
        if not path.is_file() or (is_signed and path.is_symlink()):
            what = "is a link or a device, not a file"
            raise _refused(str(root), relative, what, "Put the file itself there.")
        found[relative] = _content(path)
        size += len(found[relative])
        if size > MAX_BYTES or len(found) > MAX_FILES:
            what = f"has more than {MAX_BYTES >> 20} MiB or {MAX_FILES} files"
            raise _refused(str(root), "", what, "Keep other things elsewhere.")
    return found


def _below(root: Path, *, is_signed: bool) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        if is_signed:
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            yield from (Path(folder) / name for name in (*links, *names))
        else:
            folders[:] = [name for name in folders if not name.startswith(".")]
            seen = [name for name in names if name == MANIFEST or not name.startswith(".")]
            yield from (Path(folder) / name for name in seen)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _refuse_what_is_not_done(path: str, name: str) -> None:
    base = PurePosixPath(name).name
    if base in _NOT_DONE:
        raise _refused(path, name, _NOT_DONE[base], "Build the bundle with `opa build --target rego`, whole.")
    is_odd = base.endswith("signatures.json") and name != SIGNATURES
    if is_odd or (base.endswith(MANIFEST) and name != MANIFEST):
        what = "the signatures" if is_odd else "the manifest"
        raise _refused(path, name, f"OPA would take it for {what} of the bundle", "Give it another name.")


def _refused(path: str, name: str, message: str, remedy: str) -> ConfigError:
    where = f"{path}:{name}" if name else path
    return ConfigError("the bundle cannot be used", problems=(Problem(where, 1, 1, message, remedy),))
