"""Reads and writes the `tar.gz` of an OPA bundle: names and bytes, in memory. Knows nothing of policies.

Nothing is ever extracted. What two readers could take for different contents is refused: links, devices,
`..`, names that are one file to some systems, a header that is damaged (Python's tarfile ends there without
a word), anything after the end. OPA begins names with "/", tar with "./": both mean the top of the bundle.

Format: POSIX.1-2001 pax, as `tar(5)` describes it.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import unicodedata
import zlib
from collections.abc import Iterator, Mapping

__all__ = [
    "MAX_BYTES",
    "MAX_FILES",
    "ArchiveError",
    "checked_name",
    "is_archive",
    "read_archive",
    "write_archive",
]

MAX_BYTES = 64 << 20  # of all files, unpacked
MAX_FILES = 4000
_SUFFIX = ".tar.gz"
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


class ArchiveError(Exception):
    """It is no archive that can be trusted to say what is in it: `name` is the entry, or ""; `remedy`."""

    def __init__(self, message: str, *, name: str = "", remedy: str) -> None:
        self.name, self.remedy = name, remedy
        super().__init__(message)


def is_archive(path: str) -> bool:
    """True if *path* is called like a bundle."""
    return path.endswith(_SUFFIX)


def read_archive(packed: bytes) -> dict[str, bytes]:
    """The files of the archive by name, in the order that they have in it.

    Raises:
        ArchiveError: with what is wrong and where.
    """
    found: dict[str, bytes] = {}
    forms: dict[str, str] = {}
    for name, content in _members(_unpacked(packed)):
        if name in found:
            raise ArchiveError(
                "stands twice in the archive: one reader takes the first, another the last",
                name=name,
                remedy=_AGAIN,
            )
        other = forms.setdefault(unicodedata.normalize("NFKC", name), name)
        if other != name:
            raise ArchiveError(
                f"is the same name as {other!r} in another Unicode form",
                name=name,
                remedy="Rename one of them.",
            )
        found[name] = content
    return found


def write_archive(files: Mapping[str, bytes]) -> bytes:
    """The archive of *files*: the same bytes for the same files, wherever and whenever it is made."""
    unpacked = io.BytesIO()
    with tarfile.open(fileobj=unpacked, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            entry = tarfile.TarInfo(checked_name(name))
            entry.size, entry.mode = len(files[name]), 0o644
            archive.addfile(entry, io.BytesIO(files[name]))
    return gzip.compress(unpacked.getvalue(), compresslevel=9, mtime=0)


def checked_name(name: str) -> str:
    """*name* below the top of the bundle.

    Raises:
        ArchiveError: it leads elsewhere, or means different things to different readers.
    """
    short = name.removeprefix("./").removeprefix("/")
    parts = short.split("/")
    if ".." in parts:
        raise ArchiveError("leads out of the bundle", name=name, remedy=_AGAIN)
    if "" in parts or "." in parts or "\\" in short:
        raise ArchiveError("is not a plain path such as policies/x.rego", name=name, remedy=_AGAIN)
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") for c in short):
        raise ArchiveError(
            "has a character that nobody can see or type in its name", name=name, remedy="Rename it."
        )
    return short


_AGAIN = "Make the bundle anew: `fumehood policy build`, or `opa build`."


def _unpacked(packed: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            unpacked = stream.read(MAX_BYTES + 1)
            if len(unpacked) > MAX_BYTES:
                raise ArchiveError(
                    f"has more than {MAX_BYTES >> 20} MiB unpacked",
                    remedy="Keep large data out of the bundle; policies get it in the call's input.",
                )
            return unpacked
    except (OSError, EOFError, zlib.error) as error:
        raise ArchiveError(f"is not a whole gzip file: {error}", remedy=_AGAIN) from error


def _members(unpacked: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(
            fileobj=io.BytesIO(unpacked), mode="r:", encoding="utf-8", errors="strict"
        ) as archive:
            count = 0
            for entry in archive:
                count += 1
                if count > MAX_FILES:
                    raise ArchiveError(f"has more than {MAX_FILES} entries", remedy="Make several bundles.")
                if entry.isdir():
                    continue
                yield _content(archive, entry)
            end = archive.offset
    except (tarfile.TarError, UnicodeError, ValueError, OverflowError, EOFError) as error:
        raise ArchiveError(f"is not a whole tar archive: {error}", remedy=_AGAIN) from error
    rest = unpacked[end:]
    if len(rest) < tarfile.BLOCKSIZE or rest.count(0) != len(rest):
        raise ArchiveError("is damaged, or has more after its end", remedy=_AGAIN)


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> tuple[str, bytes]:
    if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or entry.sparse is not None:
        kind = "a sparse file" if entry.sparse is not None else _KINDS.get(entry.type, "something unknown")
        raise ArchiveError(f"is {kind}, not a file", name=entry.name, remedy=_AGAIN)
    name = checked_name(entry.name)
    stream = archive.extractfile(entry)
    content = stream.read() if stream is not None else b""
    return name, content
