"""Writes a loaded bundle as a `tar.gz` that OPA loads, too; loaded here, it has the same revision.

The same policies, manifest and key give the same bytes, but for ECDSA and PSS, whose signatures are random.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version

from fumehood.canonical import JSON
from fumehood.errors import ConfigError
from fumehood.pdp.archive import ArchiveError, write_archive
from fumehood.pdp.bundle import Bundle
from fumehood.pdp.keys import BundleKey
from fumehood.pdp.manifest import MANIFEST, Manifest, written
from fumehood.pdp.packed import CLAIM, claim
from fumehood.pdp.signatures import SIGNATURES, sign

__all__ = ["pack"]


def pack(
    bundle: Bundle,
    *,
    revision: str = "",
    metadata: Mapping[str, JSON] | None = None,
    key: BundleKey | None = None,
) -> bytes:
    """The archive of *bundle*: policies, our library, data, a manifest; signed with a private *key*.

    *revision* is what the manifest says, else that of the bundle.

    Raises:
        ConfigError: the key cannot be used, or a file's name cannot stand in an archive.
    """
    data: dict[str, JSON] = json.loads(bundle.data)
    files = {name: text.encode() for name, text in bundle.files}
    if data:
        files["data.json"] = bundle.data.encode()
    files[CLAIM] = claim(bundle.revision).encode()
    said: dict[str, JSON] = {"fumehood": {"revision": bundle.revision, "version": version("fumehood")}}
    roots = tuple(sorted({"fumehood", "policies", *data}))
    files[MANIFEST] = written(Manifest(revision or bundle.revision, roots, {**(metadata or {}), **said}))
    if key is not None:
        files[SIGNATURES] = sign(files, key)
    try:
        return write_archive(files)
    except ArchiveError as error:
        raise ConfigError(f"{error.name!r} {error}. {error.remedy}") from error
