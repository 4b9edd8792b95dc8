"""Messages with descriptors that steps of a sequence send or receive, and where a job's descriptors are."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from fumehood.confine.sequence import AT_ERROR, Argument, Cell, Sequence, Stop

#: Where none is yet: the kernel takes it for none, and nobody for a call's error.
_NO_DESCRIPTOR: Final = struct.pack("=i", -(1 << 31))
_HEADER_BYTES: Final = 56  # struct msghdr
_copy: Final = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_size_t)(
    ("memcpy", ctypes.pythonapi)
)


class Letter:
    """A message with descriptors, which steps of a sequence send or receive over a SEQPACKET socket."""

    def __init__(self, calls: Sequence, *, size: int = 0, body: bytes = b"", descriptors: int) -> None:
        self._size = len(body) or size
        self._body = calls.buffer(body or bytes(size))
        vector = calls.buffer(struct.pack("=QQ", self._body, self._size))
        beside = struct.pack("=Qii", 16 + 4 * descriptors, socket.SOL_SOCKET, socket.SCM_RIGHTS)
        room = (len(beside) + 4 * descriptors + 7) // 8 * 8
        beside += _NO_DESCRIPTOR * ((room - len(beside)) // 4 + 2)
        self._control = calls.buffer(beside + bytes(_HEADER_BYTES))
        self._message = self._control + len(beside)
        whole = beside + struct.pack("=QQQQQQQ", 0, 0, vector, 1, self._control, room, 0)
        if not descriptors:
            whole = beside + struct.pack("=QQQQQQQ", 0, 0, vector, 1, 0, 0, 0)
        #: Before it is received again: the kernel has written to it what came.
        self.make_ready: Callable[[], object] = partial(_copy, self._control, calls.buffer(whole), len(whole))
        self.make_ready()

    def descriptor(self, number: int) -> Cell:
        """Where the descriptor with this *number* is; the kernel ignores what follows its four bytes."""
        return Cell(self._control + 16 + 4 * number)

    def send(self, calls: Sequence, to: Argument, *, stop: Stop = AT_ERROR) -> None:
        """Write down in *calls* that it is sent."""
        calls.add("supervisor", "sendmsg", to, self._message, socket.MSG_NOSIGNAL, stop=stop)

    def receive(self, calls: Sequence, by: Argument, *, stop: Stop = AT_ERROR) -> Cell:
        """Write down in *calls* that it is received; answers where its length will be.

        `make_ready` comes before each time.
        """
        flags = socket.MSG_CMSG_CLOEXEC
        return calls.add("supervisor", "recvmsg", by, self._message, flags, stop=stop)

    def pretend(self, body: bytes, length: Cell) -> None:
        """As if *body* had come."""
        ctypes.memmove(self._body, body, len(body))
        length.set(len(body))

    @property
    def body(self) -> Cell:
        """Its first eight bytes."""
        return Cell(self._body)

    def reader(self, length: Cell) -> Callable[[], tuple[bytes, list[int]]]:
        """Answers body and descriptors of what has come; *length* is the result of the call.

        What it answers raises ValueError if the message was cut.
        """
        whole = memoryview((ctypes.c_char * self._size).from_address(self._body)).cast("B")
        start = self._control
        beside = memoryview((ctypes.c_char * (self._message + _HEADER_BYTES - start)).from_address(start))
        numbers = beside.cast("B").cast("i")
        size = memoryview((ctypes.c_char * 8).from_address(length.address)).cast("B").cast("q")
        header = (self._message - start) // 4
        room, flags, cut = header + 10, header + 12, int(socket.MSG_TRUNC | socket.MSG_CTRUNC)

        def read() -> tuple[bytes, list[int]]:
            if numbers[flags] & cut:
                raise ValueError("a message was cut")
            fds = numbers[4 : numbers[0] // 4].tolist() if numbers[room] else []
            return whole[: size[0]].tobytes(), fds

        return read


class Ends(NamedTuple):
    """Where the descriptors of one job's process are: what it came with, and what the supervisor gets.

    `init` is the idle first process of its pid namespace; `made` is the message with both. `request` is the
    template's own channel.
    """

    request: int
    made: Letter
    channel: Cell
    orders: Cell
    out: Cell
    err: Cell
    pidfd: Cell
    init: Cell
