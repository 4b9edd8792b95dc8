"""Changing something of the host that the job may not change."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from functools import partial
from pathlib import Path
from typing import Final

from escape.model import Attack, Run
from escape.oracles import changed, exists, is_gone
from escape.scene import Scene, ask

_attack = partial(Attack, kind="write", needs=("outside",))
_shown = partial(Attack, kind="write", needs=("shown", "work"))
_repository = partial(Attack, kind="write", needs=("work", "git"))
_NODUMP: Final = 0x40


def _victim(scene: Scene) -> os.stat_result:
    return (scene.path("outside") / "victim").stat()


def _file(scene: Scene) -> os.stat_result:
    return (scene.path("shown") / "file").stat()


def _mode_changed(scene: Scene, run: Run) -> bool:
    return _victim(scene).st_mode & 0o777 == 0o712


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


def _core_left(scene: Scene, run: Run) -> bool:
    return any(path.name.startswith("core") for path in scene.path("outside").iterdir())


def _wrote_pipe(scene: Scene, run: Run) -> bool:
    with contextlib.suppress(BlockingIOError):
        return scene.token.encode() in os.read(scene.kept["fifo"], 4096)
    return False


def _decoy_file_changed(scene: Scene, run: Run) -> bool:
    return ask(scene, "file") != scene.nonce


ATTACKS: Final = (
    _attack(
        id="write-create",
        tries="makes a file in a folder that everybody may write",
        oracle=exists("outside/x"),
        payload="open(F['outside'] + '/x', 'w')",
    ),
    _attack(
        id="write-overwrite",
        tries="opens an existing file for writing",
        oracle=changed("outside/victim"),
        payload="open(F['outside'] + '/victim', 'r+').write('x')",
    ),
    _attack(
        id="write-truncate",
        tries="cuts a file by its path, without opening it",
        oracle=changed("outside/victim"),
        payload="os.truncate(F['outside'] + '/victim', 0)",
    ),
    _attack(
        id="write-mkdir",
        tries="makes a folder",
        oracle=exists("outside/x"),
        payload="os.mkdir(F['outside'] + '/x')",
    ),
    _attack(
        id="write-unlink",
        tries="removes a file",
        oracle=is_gone("outside/victim"),
        payload="os.unlink(F['outside'] + '/victim')",
    ),
    _attack(
        id="write-rename",
        tries="renames a file",
        oracle=is_gone("outside/victim"),
        payload="os.rename(F['outside'] + '/victim', F['outside'] + '/x')",
    ),
    _attack(
        id="write-move-out",
        tries="moves a file of its own out of its folder",
        needs=("outside", "work"),
        oracle=exists("outside/x"),
        payload="""
open('x', 'w')
os.rename('x', F['outside'] + '/x')
""",
    ),
    _attack(
        id="write-symlink",
        tries="makes a symbolic link",
        oracle=exists("outside/x"),
        payload="os.symlink('/etc', F['outside'] + '/x')",
    ),
    _attack(
        id="write-link-out",
        tries="gives a file of its own a second name outside",
        needs=("outside", "work"),
        oracle=exists("outside/x"),
        payload="""
open('x', 'w')
os.link('x', F['outside'] + '/x')
""",
    ),
    _attack(
        id="write-through-symlink",
        tries="writes through a link that it made in its working folder",
        needs=("outside", "work"),
        oracle=changed("outside/victim"),
        payload="""
os.symlink(F['outside'] + '/victim', 'x')
open('x', 'r+').write('x')
""",
    ),
    _attack(
        id="write-make-pipe",
        tries="makes a named pipe (mknod)",
        oracle=exists("outside/x"),
        payload="os.mkfifo(F['outside'] + '/x')",
    ),
    _attack(
        id="write-make-socket",
        tries="makes a socket (bind)",
        oracle=exists("outside/x"),
        payload="socket.socket(socket.AF_UNIX).bind(F['outside'] + '/x')",
    ),
    _attack(
        id="write-nameless-file",
        tries="makes a file without a name (O_TMPFILE) and then gives it one",
        oracle=exists("outside/x"),
        payload="""
fd = os.open(F['outside'], os.O_WRONLY | os.O_TMPFILE, 0o600)
checked(libc.linkat(-100, f'/proc/self/fd/{fd}'.encode(), -100, (F['outside'] + '/x').encode(), 0x400))
""",
    ),
    _attack(
        id="write-chmod",
        tries="changes a file's mode",
        oracle=_mode_changed,
        payload="os.chmod(F['outside'] + '/victim', 0o712)",
    ),
    _attack(
        id="write-fchmodat2",
        tries="changes a file's mode by a call that older filters do not know",
        oracle=_mode_changed,
        payload="sc('fchmodat2', -100, (F['outside'] + '/victim').encode(), 0o712, 0)",
    ),
    _attack(
        id="write-chmod-descriptor",
        tries="changes the mode through /proc/self/fd of a file opened with O_PATH",
        oracle=_mode_changed,
        payload="""
fd = os.open(F['outside'] + '/victim', os.O_PATH)
os.chmod(f'/proc/self/fd/{fd}', 0o712)
""",
    ),
    _attack(
        id="write-chown",
        tries="gives a file to its own group, which changes its times",
        oracle=lambda scene, run: _victim(scene).st_ctime_ns - _victim(scene).st_mtime_ns > 5_000_000,
        payload="""
time.sleep(0.02)
os.chown(F['outside'] + '/victim', os.getuid(), os.getgid())
""",
    ),
    _attack(
        id="write-utime",
        tries="changes a file's times",
        oracle=lambda scene, run: _victim(scene).st_mtime == 1,
        payload="os.utime(F['outside'] + '/victim', (1, 1))",
    ),
    _attack(
        id="write-xattr",
        tries="sets an extended attribute",
        oracle=lambda scene, run: "user.x" in _attributes(scene.path("outside") / "victim"),
        payload="os.setxattr(F['outside'] + '/victim', 'user.x', b'x')",
    ),
    _attack(
        id="write-acl",
        tries="sets an access list, which is an attribute of another kind",
        oracle=lambda scene, run: "system.posix_acl_access" in _attributes(scene.path("outside") / "victim"),
        payload="""
nobody, entries = 2**32 - 1, [(1, 6), (2, 4), (4, 4), (16, 4), (32, 4)]
acl = struct.pack('=I', 2)
for kind, rights in entries: acl += struct.pack('=HHI', kind, rights, 1 if kind == 2 else nobody)
os.setxattr(F['outside'] + '/victim', 'system.posix_acl_access', acl)
""",
    ),
    _attack(
        id="write-core",
        tries="crashes with its memory written into a folder outside",
        oracle=_core_left,
        payload="""
import resource
resource.setrlimit(resource.RLIMIT_CORE, (-1, -1))
os.chdir(F['outside'])
os.abort()
""",
    ),
    _attack(
        id="write-named-pipe",
        tries="writes into a pipe that the host reads",
        needs=("fifo",),
        oracle=_wrote_pipe,
        payload="os.write(os.open(F['fifo'], os.O_WRONLY | os.O_NONBLOCK), F['token'].encode())",
    ),
    _attack(
        id="write-inherited-descriptor",
        tries="writes to a descriptor that the caller forgot to close",
        needs=("inherited_writer",),
        oracle=changed("outside/victim"),
        payload="os.write(F['fd'], b'x')",
    ),
    _attack(
        id="write-process-descriptor",
        tries="writes to a nameless file through another process's descriptor",
        needs=("decoy",),
        oracle=_decoy_file_changed,
        payload="open(f\"/proc/{F['decoy']}/fd/{F['decoy_fd']}\", 'r+').write('x')",
    ),
    _attack(
        id="write-stolen-descriptor",
        tries="copies another process's descriptor and writes to it",
        needs=("decoy",),
        oracle=_decoy_file_changed,
        payload="""
p = sc('pidfd_open', F['decoy'], 0)
os.pwrite(sc('pidfd_getfd', p, F['decoy_fd'], 0), b'x', 0)
""",
    ),
    _attack(
        id="write-process-root",
        tries="makes a file through the root of another process",
        needs=("outside", "decoy"),
        oracle=exists("outside/x"),
        payload="open(f\"/proc/{F['decoy']}/root{F['outside']}/x\", 'w')",
    ),
    _attack(
        id="write-io-uring",
        tries="makes a folder by io_uring, which no filter on calls sees",
        oracle=exists("outside/x"),
        payload="""
path = ctypes.create_string_buffer((F['outside'] + '/x').encode())
Ring().do(37, -100, addr=ctypes.addressof(path), length=0o755)
""",
    ),
    _attack(
        id="write-bind-mount",
        tries="mounts the folder into its own from a user namespace and writes there",
        needs=("outside", "work"),
        oracle=exists("outside/x"),
        payload="""
userns(NEWNS)
os.mkdir('m')
mount(F['outside'], 'm', flags=4096)
open('m/x', 'w')
""",
    ),
    _attack(
        id="write-overlay",
        tries="mounts an overlay whose changes land in the folder",
        needs=("layers", "work"),
        oracle=exists("outside/upper/x"),
        payload="""
userns(NEWNS)
for n in 'lm': os.mkdir(n)
up = F['outside'] + '/upper'
mount('o', 'm', 'overlay', 0, f"lowerdir=l,upperdir={up},workdir={F['outside']}/changes,userxattr")
open('m/x', 'w')
""",
    ),
    # --- what it is shown read-only
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
    # --- what outlives the job
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
