"""Learning what lies outside: which paths exist, and what their attributes say."""

from __future__ import annotations

from functools import partial
from typing import Final

from escape.model import Attack, Run
from escape.oracles import found_which, leaks, says
from escape.scene import Scene

_attack = partial(Attack, kind="metadata", oracle=leaks)


_LANDLOCK: Final = "Landlock does not cover asking about a path, and without namespaces every path is there"


_PATHS: Final = {"no-userns": _LANDLOCK}


def _handle(scene: Scene) -> str:
    return str(scene.path("marked").stat().st_ino)


def _modified(scene: Scene) -> int:
    return int(10**18 + scene.kept["time"])


def _locks(scene: Scene, run: Run) -> bool:
    return f":{scene.kept['inode']} ".encode() in run.stdout


ATTACKS: Final = (
    _attack(
        id="meta-stat",
        tries="asks when a file outside was changed (newfstatat)",
        needs=("marked",),
        oracle=says(_modified),
        reaches=_PATHS,
        payload="say(os.stat(F['marked']).st_mtime_ns)",
    ),
    _attack(
        id="meta-statx",
        tries="asks the same by statx",
        needs=("marked",),
        oracle=says(_modified),
        reaches=_PATHS,
        payload="""
room = ctypes.create_string_buffer(256)
sc('statx', -100, F['marked'].encode(), 0, 0xfff, room)
s, ns = struct.unpack_from('=qI', room, 0x70)
say(s * 10**9 + ns)
""",
    ),
    _attack(
        id="meta-path-descriptor",
        tries="opens a file outside with O_PATH and asks about the descriptor",
        needs=("marked",),
        oracle=says(_modified),
        reaches=_PATHS,
        payload="say(os.fstat(os.open(F['marked'], os.O_PATH)).st_mtime_ns)",
    ),
    _attack(
        id="meta-access",
        tries="finds out which of many names exists (access)",
        needs=("many",),
        oracle=found_which,
        reaches=_PATHS,
        payload="exists_how(lambda p: checked(libc.access(p.encode(), 0)))",
    ),
    _attack(
        id="meta-chdir",
        tries="finds out which of many folders exists (chdir)",
        needs=("many",),
        oracle=found_which,
        reaches=_PATHS,
        payload="exists_how(os.chdir)",
    ),
    _attack(
        id="meta-mkdir-errno",
        tries="tells what exists from how making it fails (mkdir)",
        needs=("many",),
        oracle=found_which,
        reaches=_PATHS,
        payload="""
def ask(path):
    try: os.mkdir(path + '/x/y')
    except FileNotFoundError: os.stat(path)
exists_how(ask)
""",
    ),
    _attack(
        id="meta-open-errno",
        tries="tells what exists from how opening fails: EISDIR, EACCES or ENOENT",
        needs=("many",),
        oracle=found_which,
        reaches=_PATHS,
        payload="exists_how(lambda p: os.open(p, os.O_RDONLY))",
    ),
    _attack(
        id="meta-exec-errno",
        tries="tells what exists from how executing it fails",
        needs=("many",),
        oracle=found_which,
        reaches=_PATHS,
        payload="exists_how(lambda p: os.execve(p, ['x'], {}))",
    ),
    _attack(
        id="meta-statfs",
        tries="tells what exists by asking for its file system",
        needs=("many",),
        oracle=found_which,
        reaches=_PATHS,
        payload="exists_how(os.statvfs)",
    ),
    _attack(
        id="meta-rename-errno",
        tries="tells what exists from how renaming fails",
        needs=("many",),
        oracle=found_which,
        reaches=_PATHS,
        payload="exists_how(lambda p: os.rename(p, p + '/x'))",
    ),
    _attack(
        id="meta-readlink",
        tries="reads where a link outside leads",
        needs=("marked",),
        reaches=_PATHS,
        payload="say(os.readlink(F['link']))",
    ),
    _attack(
        id="meta-getxattr",
        tries="reads an extended attribute of a file outside",
        needs=("marked",),
        reaches=_PATHS,
        payload="say(os.getxattr(F['marked'], 'user.note'))",
    ),
    _attack(
        id="meta-listxattr",
        tries="lists the extended attributes of a file outside",
        needs=("marked",),
        reaches=_PATHS,
        payload="say(str(os.listxattr(F['marked'])))",
    ),
    _attack(
        id="meta-list-folder",
        tries="lists a folder outside",
        needs=("telling",),
        payload="say(str(os.listdir(F['telling'])))",
    ),
    _attack(
        id="meta-inotify",
        tries="watches a folder outside (inotify)",
        needs=("busy",),
        payload="""
fd = checked(libc.inotify_init())
checked(libc.inotify_add_watch(fd, F['busy'].encode(), 0x100))
say(os.read(fd, 4096))
""",
    ),
    _attack(
        id="meta-fanotify",
        tries="watches a folder outside (fanotify, which an ordinary user may since Linux 5.13)",
        needs=("busy",),
        payload="""
fd = sc('fanotify_init', 0xe00, 0)
sc('fanotify_mark', fd, 1, 0x08000100, -100, F['busy'].encode())
say(os.read(fd, 4096))
""",
    ),
    _attack(
        id="meta-file-handle",
        tries="asks for the handle of a file outside, which holds its inode's number",
        needs=("marked",),
        oracle=says(_handle),
        payload="""
room = ctypes.create_string_buffer(struct.pack('=Ii', 64, 0), 80)
sc('name_to_handle_at', -100, F['marked'].encode(), room, ctypes.byref(ctypes.c_int()), 0)
say(struct.unpack_from('=I', room, 8)[0])
""",
    ),
    _attack(
        id="meta-locks",
        tries="reads who holds which lock (/proc/locks)",
        needs=("locked",),
        oracle=_locks,
        payload="say(open('/proc/locks', 'rb').read())",
    ),
)
