"""Messages with descriptors over SEQPACKET sockets, and memory files for what does not fit into one.

Each function is one call, as in `syscalls`.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
from typing import Final

_F_ADD_SEALS: Final = 1033
_SEAL_ALL: Final = 0x1 | 0x2 | 0x4 | 0x8  # seal, shrink, grow, write
_MFD_CLOEXEC: Final = 0x1
_MFD_ALLOW_SEALING: Final = 0x2
_MFD_NOEXEC_SEAL: Final = 0x8
# plain numbers: the flags of `socket` are enumerations, which are slow to combine
_CLOSE_ON_EXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
_CUT: Final = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_NO_SIGNAL: Final = int(socket.MSG_NOSIGNAL)
NOW: Final = int(socket.MSG_DONTWAIT)
PEEK: Final = int(socket.MSG_PEEK)
MOST_DESCRIPTORS: Final = 253  # in one message, says the kernel (SCM_MAX_FD)


def memfd(name: str = "fumehood") -> int:
    """An empty memory file that may be sealed and never executed."""
    try:
        return os.memfd_create(name, _MFD_CLOEXEC | _MFD_ALLOW_SEALING | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.3 the kernel does not know _MFD_NOEXEC_SEAL
            raise
        return os.memfd_create(name, _MFD_CLOEXEC | _MFD_ALLOW_SEALING)


def sealed_memfd(body: bytes) -> int:
    """A read-only, unshrinkable memory file holding *body*, rewound."""
    fd = memfd()
    view = memoryview(body)
    while view:
        view = view[os.write(fd, view) :]
    seal(fd)
    return fd


def seal(fd: int) -> None:
    """Make the memory file *fd* read-only for good, and rewind it."""
    fcntl.fcntl(fd, _F_ADD_SEALS, _SEAL_ALL)
    os.lseek(fd, 0, os.SEEK_SET)


def read_memfd(fd: int, *, limit_bytes: int) -> bytes:
    """The whole body of a memory file of at most *limit_bytes*. Raises ValueError if it is larger."""
    size = os.fstat(fd).st_size
    if size > limit_bytes:
        raise ValueError(f"a message body of {size} bytes is over the limit of {limit_bytes}")
    return os.pread(fd, size, 0)


def send_message(sock: socket.socket, body: bytes, *, fds: tuple[int, ...] = ()) -> None:
    """One SEQPACKET message with descriptors. CPython 3.11's `send_fds` ignores its flags; this does not."""
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([body], control, _NO_SIGNAL)


def receive_message(sock: socket.socket, *, flags: int = 0) -> tuple[bytes, list[int]]:
    """One SEQPACKET message and its descriptors, close-on-exec; empty body at the end of the stream.

    Raises:
        ValueError: the message was cut (its descriptors are closed).
    """
    room = socket.CMSG_SPACE(MOST_DESCRIPTORS * 4)
    body, control, got_flags, _ = sock.recvmsg(1 << 17, room, _CLOSE_ON_EXEC | flags)
    fds = array.array("i")
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if got_flags & _CUT:
        for fd in fds:
            os.close(fd)
        raise ValueError("a message was cut")
    return body, list(fds)
