"""Where a ledger lies and who may touch it: paths, permissions, file systems.

Everything is made for its owner alone, whatever the umask says. What another user could have put
there (a link, a file of theirs, a folder that everybody may write to) is refused, not repaired.

The database file itself is never opened here once it exists: closing any descriptor of it would
drop SQLite's POSIX locks for the whole process (fcntl(2)).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fumehood.errors import LedgerError

__all__ = ["create_private", "default_path", "locate", "make_private_folder", "sidecar", "vet"]

# statfs(2): file systems on which another host may write at the same time, or whose locks and shared
# memory cannot be trusted for SQLite's WAL.
_NETWORK = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x01021997: "9P",
    0x65735546: "FUSE",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x73757245: "Coda",
    0x564C: "NCP",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x01161970: "GFS2",
    0x7461636F: "OCFS2",
    0x19830326: "BeeGFS",
    0x20030528: "OrangeFS",
    0x786F4256: "VirtualBox shared folder",
    0xBACBACBC: "VMware shared folder",
}


def default_path() -> str:
    """$FUMEHOOD_LEDGER, else `fumehood/ledger.db` in the XDG state folder."""
    named = os.environ.get("FUMEHOOD_LEDGER")
    if named:
        return named
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return str(Path(state).expanduser() / "fumehood" / "ledger.db")


def locate(path: str | os.PathLike[str] | None) -> Path:
    """The absolute path of the ledger file; links in the folders before it are resolved."""
    given = Path(default_path() if path is None else path).expanduser().absolute()
    return given.parent.resolve() / given.name


def sidecar(path: Path) -> Path:
    """The folder beside the ledger that holds locks and leases."""
    return path.with_name(path.name + ".leases")


def vet(path: Path) -> bool:
    """Refuse a place or a file that others could control; True if the file exists.

    Raises:
        LedgerError: says what is wrong with the permissions, the owner or the file system.
    """
    _vet_folder(path.parent)
    _vet_file_system(path.parent)
    for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        _vet_file(name)
    return path.exists()


def create_private(path: Path) -> None:
    """Make the empty ledger file, 0600; nothing happens if another process just did."""
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        os.fchmod(fd, 0o600)
    finally:
        os.close(fd)


def make_private_folder(folder: Path) -> None:
    """Make *folder* (0700), and the folders above it; refuse one that is not ours alone.

    Raises:
        LedgerError: it is a link, another user's, or open to others.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise _unusable(folder, error) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise LedgerError(f"{folder} must be a folder of this user; remove it", code="ledger_unsafe")
    if found.st_mode & 0o077:
        raise LedgerError(f"{folder} is open to others; run: chmod 700 {folder}", code="ledger_unsafe")


def _vet_folder(folder: Path) -> None:
    try:
        found = folder.stat()
    except FileNotFoundError:
        raise LedgerError(f"the folder {folder} does not exist", code="ledger_missing") from None
    except OSError as error:
        raise _unusable(folder, error) from error
    if not stat.S_ISDIR(found.st_mode):
        raise LedgerError(f"{folder} is not a folder", code="ledger_unsafe")
    if found.st_uid not in (0, os.geteuid()):
        raise LedgerError(
            f"{folder} belongs to another user; keep the ledger in your own", code="ledger_unsafe"
        )
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise LedgerError(f"everybody may write to {folder}; run: chmod o-w {folder}", code="ledger_unsafe")


def _vet_file(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise LedgerError(f"{path} is not a plain file (a link?); remove it", code="ledger_unsafe")
    if found.st_uid != os.geteuid():
        raise LedgerError(
            f"{path} belongs to user {found.st_uid}, not to you ({os.geteuid()}); run this as that user",
            code="ledger_unsafe",
        )
    if found.st_mode & 0o077:
        raise LedgerError(f"{path} is open to others; run: chmod 600 {path}", code="ledger_unsafe")


def _vet_file_system(folder: Path) -> None:
    name = _NETWORK.get(_file_system(folder))
    if name is not None:
        raise LedgerError(
            f"{folder} is on {name}, where SQLite's locks cannot be trusted; keep the ledger on a local disk",
            code="ledger_network",
        )


def _file_system(folder: Path) -> int:
    import ctypes  # 4 ms: only where a ledger is opened

    room = ctypes.create_string_buffer(512)  # struct statfs; f_type comes first and is a word
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(folder), room) != 0:
        raise _unusable(folder, OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())))
    return ctypes.c_long.from_buffer(room).value & 0xFFFFFFFF


def _unusable(path: Path, error: OSError) -> LedgerError:
    return LedgerError(f"{path} cannot be used: {error.strerror}", code="ledger_io")
