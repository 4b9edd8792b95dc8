"""Changing what the job may read and not write, and leaving what outlives it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from functools import partial
from pathlib import Path
from typing import Final

from escape.model import Attack, Run
from escape.oracles import changed, is_gone
from escape.scene import Scene

_attack = partial(Attack, kind="write", needs=("outside",))


_shown = partial(Attack, kind="write", needs=("shown", "work"))


_repository = partial(Attack, kind="write", needs=("work", "git"))


_NODUMP: Final = 0x40


def _file(scene: Scene) -> os.stat_result:
    return (scene.path("shown") / "file").stat()


def _attributes(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listxattr(path)
    return []


def _flags_changed(scene: Scene, run: Run) -> bool:
    fd = os.open(scene.path("shown") / "file", os.O_RDONLY)
    try:
        found = int.from_bytes(fcntl.ioctl(fd, 0x80086601, bytes(8)), "little")
    finally:
        os.close(fd)
    return bool(found & _NODUMP)


def _has_set_id(name: str) -> bool:
    path = Path(name)
    return path.exists() and bool(path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID))


def _set_id_made(scene: Scene, run: Run) -> bool:
    return any(_has_set_id(str(path)) for path in scene.path("work").iterdir())


def _capable(scene: Scene, run: Run) -> bool:
    return any("security.capability" in _attributes(path) for path in scene.path("work").iterdir())


def _device_made(scene: Scene, run: Run) -> bool:
    return any(stat.S_ISCHR(path.lstat().st_mode) for path in scene.path("work").iterdir())


def _repository_touched(scene: Scene, run: Run) -> bool:
    """What was planted as .git holds something new, or is not where the user's tools look any more."""
    git = scene.path("work") / ".git"
    has_moved = not git.exists() or git.stat().st_ino != scene.kept["git"]
    return has_moved or (git / "config").read_text() != "[core]\n" or bool(list((git / "hooks").iterdir()))


ATTACKS: Final = (
    _shown(
        id="write-shown-file",
        tries="writes a file that it is shown read-only",
        oracle=changed("shown/file"),
        payload="open(F['shown'] + '/file', 'r+').write('x')",
    ),
    _shown(
        id="write-shown-reopen",
        tries="opens a file that it may read again for writing, by /proc/self/fd",
        oracle=changed("shown/file"),
        payload="""
fd = os.open(F['shown'] + '/file', os.O_RDONLY)
open(f'/proc/self/fd/{fd}', 'r+').write('x')
""",
    ),
    _shown(
        id="write-shown-link",
        tries="gives a shown file a second name in its working folder and writes there",
        oracle=changed("shown/file"),
        payload="""
os.link(F['shown'] + '/file', 'mine')
open('mine', 'r+').write('x')
""",
    ),
    _shown(
        id="write-shown-rename",
        tries="moves a shown file into its working folder",
        oracle=is_gone("shown/file"),
        payload="os.rename(F['shown'] + '/file', 'mine')",
    ),
    _shown(
        id="write-shown-mode",
        tries="changes the mode of a file that it has open for reading",
        oracle=lambda scene, run: _file(scene).st_mode & 0o777 == 0o712,
        payload="os.fchmod(os.open(F['shown'] + '/file', os.O_RDONLY), 0o712)",
    ),
    _shown(
        id="write-shown-times",
        tries="changes the times of a file that it has open for reading",
        oracle=lambda scene, run: _file(scene).st_mtime == 1,
        payload="os.utime(os.open(F['shown'] + '/file', os.O_RDONLY), (1, 1))",
    ),
    _shown(
        id="write-shown-xattr",
        tries="sets an attribute of a file that it has open for reading",
        oracle=lambda scene, run: "user.x" in _attributes(scene.path("shown") / "file"),
        payload="os.setxattr(os.open(F['shown'] + '/file', os.O_RDONLY), 'user.x', b'x')",
    ),
    _shown(
        id="write-shown-flags",
        tries="changes the flags of a file that it has open for reading (chattr)",
        oracle=_flags_changed,
        payload="""
fd = os.open(F['shown'] + '/file', os.O_RDONLY)
fcntl.ioctl(fd, 0x40086602, struct.pack('=q', 0x80040))
""",
    ),
    _shown(
        id="write-shown-remount",
        tries="makes the read-only mount writable from a user namespace (mount)",
        oracle=changed("shown/file"),
        payload="""
userns(NEWNS)
libc.mount(None, F['shown'].encode(), None, 32 | 4096, None)
open(F['shown'] + '/file', 'r+').write('x')
""",
    ),
    _shown(
        id="write-shown-mount-attributes",
        tries="takes the read-only attribute off the mount (mount_setattr)",
        oracle=changed("shown/file"),
        payload="""
userns(NEWNS)
attr = ctypes.create_string_buffer(struct.pack('=QQQQ', 0, 1, 0, 0), 32)
try: sc('mount_setattr', -100, F['shown'].encode(), 0, attr, 32)
except OSError as error:
    if error.errno == errno.EPERM: raise
open(F['shown'] + '/file', 'r+').write('x')
""",
    ),
    _repository(
        id="write-git-hook",
        tries="leaves a hook that the user's git will run",
        oracle=_repository_touched,
        payload="open('.git/hooks/post-commit', 'w')",
    ),
    _repository(
        id="write-git-config",
        tries="changes the repository's settings",
        oracle=_repository_touched,
        payload="open('.git/config', 'a').write('hooksPath = /x')",
    ),
    _repository(
        id="write-git-rename",
        tries="moves .git away and makes another",
        oracle=_repository_touched,
        payload="""
os.rename('.git', 'old')
os.makedirs('.git/hooks')
open('.git/config', 'w')
""",
    ),
    _repository(
        id="write-git-over",
        tries="exchanges .git with a folder of its own in one step",
        oracle=_repository_touched,
        payload="""
os.makedirs('new/hooks')
open('new/config', 'w')
sc('renameat2', -100, b'new', -100, b'.git', 2)
""",
    ),
    _repository(
        id="write-git-mode",
        tries="makes .git unreadable for the user",
        oracle=lambda scene, run: (scene.path("work") / ".git").stat().st_mode & 0o777 == 0,
        payload="os.chmod('.git', 0)",
    ),
    _repository(
        id="write-git-parent",
        tries="renames the working folder itself and makes another in its place",
        oracle=lambda scene, run: not (scene.path("work") / ".git").exists(),
        payload="""
os.rename(F['work'], F['work'] + '-old')
os.mkdir(F['work'])
""",
    ),
    _attack(
        id="write-set-id",
        tries="leaves a program with the set-user-id bit (chmod)",
        needs=("work",),
        oracle=_set_id_made,
        payload="""
open('x', 'w')
os.chmod('x', 0o4755)
""",
    ),
    _attack(
        id="write-set-id-open",
        tries="makes a file that has the set-user-id bit from the start (open)",
        needs=("work",),
        oracle=_set_id_made,
        payload="""
os.umask(0)
os.open('x', os.O_CREAT | os.O_WRONLY, 0o6755)
""",
    ),
    _attack(
        id="write-set-id-mknod",
        tries="makes a file that has the set-user-id bit from the start (mknod)",
        needs=("work",),
        oracle=_set_id_made,
        payload="""
os.umask(0)
os.mknod('x', 0o106755)
""",
    ),
    _attack(
        id="write-set-id-fchmodat2",
        tries="sets the bit by a call that older filters do not know",
        needs=("work",),
        oracle=_set_id_made,
        payload="""
open('x', 'w')
sc('fchmodat2', -100, b'x', 0o4755, 0)
""",
    ),
    _attack(
        id="write-set-id-io-uring",
        tries="makes a file with the bit by io_uring",
        needs=("work",),
        oracle=_set_id_made,
        payload="""
os.umask(0)
path = ctypes.create_string_buffer(b'x')
Ring().do(18, -100, addr=ctypes.addressof(path), length=0o6755, flags=os.O_CREAT | os.O_WRONLY)
""",
    ),
    _attack(
        id="write-capability",
        tries="leaves a program with capabilities (setxattr, as root of a user namespace)",
        needs=("work",),
        oracle=_capable,
        payload="""
open('x', 'w')
userns()
os.setxattr('x', 'security.capability', struct.pack('=IIIII', 0x02000001, 0x80, 0, 0, 0))
""",
    ),
    _attack(
        id="write-device",
        tries="makes a device that hides files from overlays (mknod of 0:0)",
        needs=("work",),
        oracle=_device_made,
        payload="os.mknod('x', 0o20666, 0)",
    ),
)
