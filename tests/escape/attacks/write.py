"""Changing something of the host that the job was not shown."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from pathlib import Path
from typing import Final

from escape.model import Attack, Run
from escape.oracles import changed, exists, is_gone
from escape.scene import Scene
from escape.scene_processes import ask

_attack = partial(Attack, kind="write", needs=("outside",))


def _victim(scene: Scene) -> os.stat_result:
    return (scene.path("outside") / "victim").stat()


def _mode_changed(scene: Scene, run: Run) -> bool:
    return _victim(scene).st_mode & 0o777 == 0o712


def _attributes(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listxattr(path)
    return []


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
)
