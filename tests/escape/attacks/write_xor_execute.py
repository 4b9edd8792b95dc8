"""Running machine code that was made at run time: where no program may be started, none may be made."""

from __future__ import annotations

from functools import partial
from typing import Final

from escape import witness
from escape.model import Attack, Run
from escape.oracles import ran_code
from escape.scene import Scene

_attack = partial(Attack, kind="write-xor-execute", profile="strictest", live=True, oracle=ran_code)
_NO_NOEXEC: Final = {
    "no-userns": "Landlock does not cover maps, and a filter cannot tell one of a library from one of "
    "something written; a folder that nothing may be executed from takes a mount"
}
_FILE: Final = "fd = os.open({}, os.O_RDWR | os.O_CREAT, 0o700)\nos.write(fd, code().ljust(4096, b'\\0'))\n"


def _runs_written(scene: Scene, run: Run) -> bool:
    """A process whose executable is the file that was written, in the kernel's words."""
    return any(
        witness.executable(pid).endswith(scene.facts["ran"]) for pid in witness.named(scene.facts["ran"])
    )


def _runs_memory_file(scene: Scene, run: Run) -> bool:
    return any(witness.executable(pid).startswith("/memfd:") for pid in witness.with_word(scene.facts["ran"]))


def _maps_written(scene: Scene, run: Run) -> bool:
    """A process executes memory that is the file that was written."""
    pids = {*witness.named(scene.tag), *witness.with_word("./" + scene.facts["ran"])}
    lines = [line.split() for pid in pids for line in witness.maps(pid)]
    return any("x" in line[1] and line[-1].endswith(scene.facts["ran"]) for line in lines)


ATTACKS: Final = (
    _attack(
        id="code-writable-map",
        tries="maps memory that is writable and executable",
        payload="""
at = raw_mmap(4096, 7, 0x22)
ctypes.memmove(at, code(), len(code()))
run_at(at)
""",
    ),
    _attack(
        id="code-writable-map-offline",
        tries="the same where programs may be started",
        profile="python-offline",
        payload="""
at = raw_mmap(4096, 7, 0x22)
ctypes.memmove(at, code(), len(code()))
run_at(at)
""",
    ),
    _attack(
        id="code-shared-map",
        tries="maps shared memory that is writable and executable",
        payload="""
at = raw_mmap(4096, 7, 0x21)
ctypes.memmove(at, code(), len(code()))
run_at(at)
""",
    ),
    _attack(
        id="code-protect",
        tries="writes first and asks for the right to execute afterwards (mprotect)",
        payload="""
at = raw_mmap(4096, 3, 0x22)
ctypes.memmove(at, code(), len(code()))
sc('mprotect', at, 4096, 5)
run_at(at)
""",
    ),
    _attack(
        id="code-protect-offline",
        tries="asks for the right afterwards where programs may be started",
        profile="python-offline",
        payload="""
at = raw_mmap(4096, 3, 0x22)
ctypes.memmove(at, code(), len(code()))
sc('mprotect', at, 4096, 5)
run_at(at)
""",
    ),
    _attack(
        id="code-protect-key",
        tries="asks for the right by the call with a key (pkey_mprotect)",
        payload="""
at = raw_mmap(4096, 3, 0x22)
ctypes.memmove(at, code(), len(code()))
sc('pkey_mprotect', at, 4096, 5, -1)
run_at(at)
""",
    ),
    _attack(
        id="code-text-made-writable",
        tries="makes the text of a library writable and changes it there",
        payload="""
at = ctypes.cast(libc.getppid, ctypes.c_void_p).value & -4096
sc('mprotect', at, 8192, 7)
ctypes.memmove(at, code(), len(code()))
run_at(at)
""",
    ),
    _attack(
        id="code-text-private-file",
        tries="maps a library's text anew, writable and executable at once",
        payload="""
path = next(p for p in ('/usr/lib/x86_64-linux-gnu/libc.so.6', '/usr/lib64/libc.so.6') if os.path.exists(p))
at = raw_mmap(4096, 7, 2, os.open(path, os.O_RDONLY))
ctypes.memmove(at, code(), len(code()))
run_at(at)
""",
    ),
    _attack(
        id="code-process-memory",
        tries="writes over its own text through /proc/self/mem, which minds no protection",
        payload="""
at = ctypes.cast(libc.getppid, ctypes.c_void_p).value
os.pwrite(os.open('/proc/self/mem', os.O_RDWR), code(), at)
run_at(at)
""",
    ),
    _attack(
        id="code-stack",
        tries="makes its stack executable",
        payload="""
room = ctypes.create_string_buffer(8192)
at = (ctypes.addressof(room) + 4095) & -4096
ctypes.memmove(at, code(), len(code()))
sc('mprotect', at, 4096, 7)
run_at(at)
""",
    ),
    _attack(
        id="code-file",
        tries="writes code into a file and maps that for execution",
        reaches=_NO_NOEXEC,
        payload=_FILE.format("'c'") + "run_at(raw_mmap(4096, 5, 2, fd))",
    ),
    _attack(
        id="code-file-shared",
        tries="maps one file twice, once to write and once to execute",
        reaches=_NO_NOEXEC,
        payload=_FILE.format("'c'") + "w = raw_mmap(4096, 3, 1, fd)\nat = raw_mmap(4096, 5, 1, fd)\n"
        "ctypes.memmove(w, code(), len(code()))\nrun_at(at)",
    ),
    _attack(
        id="code-file-in-workdir",
        tries="the same with a file in a working folder of the host",
        needs=("work",),
        reaches=_NO_NOEXEC,
        payload=_FILE.format("'c'") + "run_at(raw_mmap(4096, 5, 2, fd))",
    ),
    _attack(
        id="code-shared-memory-file",
        tries="the same in /dev/shm",
        payload=_FILE.format("'/dev/shm/' + F['tag']") + "os.unlink('/dev/shm/' + F['tag'])\n"
        "run_at(raw_mmap(4096, 5, 1, fd))",
    ),
    _attack(
        id="code-temporary-file",
        tries="the same with a file without a name (O_TMPFILE)",
        reaches=_NO_NOEXEC,
        payload="""
fd = os.open(os.environ.get('TMPDIR', '/tmp'), os.O_RDWR | os.O_TMPFILE, 0o700)
os.write(fd, code().ljust(4096, b'\\0'))
run_at(raw_mmap(4096, 5, 2, fd))
""",
    ),
    _attack(
        id="code-memory-file",
        tries="the same with a file that lies in no file system (memfd_create)",
        payload="""
fd = sc('memfd_create', b'x', 0)
os.write(fd, code().ljust(4096, b'\\0'))
run_at(raw_mmap(4096, 5, 1, fd))
""",
    ),
    _attack(
        id="code-segment",
        tries="attaches a System V segment for execution (SHM_EXEC)",
        payload="""
libc.shmat.restype = ctypes.c_void_p
n = sc('shmget', 0, 4096, 0o1700)
w, at = libc.shmat(n, None, 0), libc.shmat(n, None, 0o100000)
sc('shmctl', n, 0, 0)
ctypes.memmove(w, code(), len(code()))
run_at(at)
""",
    ),
    _attack(
        id="code-read-implies-execute",
        tries="switches to the mode of old programs, where what can be read can be executed (personality)",
        payload="""
sc('personality', 0x400000)
at = raw_mmap(4096, 3, 0x22)
ctypes.memmove(at, code(), len(code()))
run_at(at)
""",
    ),
    _attack(
        id="code-program",
        tries="writes a program and starts it",
        oracle=_runs_written,
        payload="""
open(F['ran'], 'wb').write(elf())
os.chmod(F['ran'], 0o700)
os.execv('./' + F['ran'], [F['ran']])
""",
    ),
    _attack(
        id="code-program-by-descriptor",
        tries="writes a program into memory and starts it by its descriptor (execveat)",
        oracle=_runs_memory_file,
        payload="""
fd = sc('memfd_create', F['ran'].encode(), 0)
os.write(fd, elf())
words = (ctypes.c_char_p * 2)(F['ran'].encode(), None)
sc('execveat', fd, b'', words, (ctypes.c_char_p * 1)(), 0x1000)
""",
    ),
    _attack(
        id="code-loader",
        tries="lets the system's loader run a file that it wrote and has no right to execute",
        oracle=_maps_written,
        payload="""
body = open('/bin/sleep', 'rb').read()
open(F['ran'], 'wb').write(body + b'changed')
os.execv('/lib64/ld-linux-x86-64.so.2', ['ld', './' + F['ran'], '2'])
""",
    ),
    _attack(
        id="code-library",
        tries="writes a library and loads it",
        oracle=_maps_written,
        reaches=_NO_NOEXEC,
        payload="""
import _ctypes
from pathlib import Path
body = next(p for p in Path('/usr/lib').rglob('libz.so.1*')).read_bytes()
open(F['ran'], 'wb').write(body + b'changed')
ctypes.CDLL('./' + F['ran'])
hold()
""",
    ),
)
