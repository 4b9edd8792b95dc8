"""Messages between the caller, the spawner and the jails: JSON with a version, descriptors beside it.

After the JSON, in one line, there may be more: bytes that are only passed on, which nobody has to encode.

SEQPACKET carries one message whole or not at all, and refuses large ones: a body that is too large goes as a
sealed memory file, which is then the first descriptor.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from typing import Any, Final

from fumehood.confine import messages

VERSION: Final = 1
#: What a template is asked for: a jail like all others, or one whose plan comes over the jail's own channel.
ALIKE, OWN = b"alike", b"own"
GO: Final = b"go"  # to a job's process that has its orders already, when it is known
#: For those who know what they get: text and where to start; answers the fields and where they end.
decoded: Final = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_encoded: Final = json.JSONEncoder(separators=(",", ":")).encode
MOST_INLINE_BYTES: Final = 48_000
_MOST_BYTES: Final = 160 << 20
_STREAMS: Final = 2  # the last number of the standard streams


def encode(fields: dict[str, Any]) -> bytes:
    """The body of a message."""
    return _encoded({"v": VERSION, **fields}).encode()


def encode_text(text: str) -> bytes:
    """*text* as it stands in a message."""
    return _encoded(text).encode()


def send(sock: socket.socket, fields: dict[str, Any], *, fds: tuple[int, ...] = ()) -> None:
    """Send one message. Raises OSError if the other side is gone (EPIPE, ECONNRESET) or full (EAGAIN)."""
    send_body(sock, encode(fields), fds=fds)


def send_body(sock: socket.socket, body: bytes, *, fds: tuple[int, ...] = ()) -> None:
    """As `send`, what is encoded already."""
    if len(body) <= MOST_INLINE_BYTES:
        messages.send_message(sock, body, fds=fds)
        return
    memory = messages.sealed_memfd(body)
    try:
        messages.send_message(sock, b"memfd", fds=(memory, *fds))
    finally:
        os.close(memory)


def receive(sock: socket.socket, *, flags: int = 0) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its descriptors; None at the end.

    Raises:
        ValueError: another version, or not a message of ours.
        BlockingIOError: nothing there yet, on a socket that does not block.
    """
    message = receive_body(sock, flags=flags)
    return (decode(message[0]), message[1]) if message else None


def receive_body(sock: socket.socket, *, flags: int = 0) -> tuple[bytes, list[int]] | None:
    """As `receive`, undecoded."""
    try:
        body, fds = messages.receive_message(sock, flags=flags)
    except ConnectionResetError:
        # The other side ended with something unread. The error comes once, before what it had sent: read on.
        body, fds = messages.receive_message(sock, flags=flags)
    if not body:
        return None
    return opened(body, fds)


def opened(body: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
    """A message that has come, wherever its body is; as `receive_body`."""
    if body == b"memfd":
        memory, *fds = fds
        body = _taken(memory)
    return body, fds


def joined(head: bytes, *rest: bytes | bytearray) -> bytes:
    """The body of a message with more than its JSON, which `encode` has made."""
    return b"".join((head, b"\n", *rest))


def parted(body: bytes) -> tuple[bytes, bytes]:
    """The JSON of a message, and what follows it."""
    head, _, rest = body.partition(b"\n")
    return head, rest


def decode(body: bytes) -> dict[str, Any]:
    """The fields of a message that `encode` made. Raises ValueError for anything else."""
    text = body.decode()
    try:
        fields, end = decoded(text, 0)
    except StopIteration:
        raise ValueError("a message is no JSON") from None
    if end != len(text) or not isinstance(fields, dict) or fields.pop("v", None) != VERSION:
        raise ValueError("a message of another version")
    return fields


def _taken(fd: int) -> bytes:
    try:
        return messages.read_memfd(fd, limit_bytes=_MOST_BYTES)
    finally:
        os.close(fd)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected SEQPACKET sockets, close-on-exec, never with a number of the standard streams."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return _above_the_streams(ours), _above_the_streams(theirs)


def _above_the_streams(sock: socket.socket) -> socket.socket:
    """An application may have closed 0, 1 or 2; what it starts gets other files under these numbers."""
    if sock.fileno() > _STREAMS:
        return sock
    with sock:
        return socket.socket(fileno=fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, _STREAMS + 1))
