"""Opens a connection to a server before a deadline: the look-up of its name, connecting and TLS included."""

from __future__ import annotations

import io
import os
import queue
import select
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from fumehood.pdp.server import Address, OpaServer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Answer", "Connector", "is_quiet", "left", "send"]

_CHUNK = 1 << 16

_Found = tuple[int, int, int, Any]  # family, kind, protocol, address


def left(until: float) -> float:
    """Seconds until *until*.

    Raises:
        TimeoutError: none.
    """
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


class Connector:
    """Opens connections to one server. Thread-safe."""

    def __init__(self, server: OpaServer) -> None:
        self._server = server
        self._tls = (self._stamps(), server.tls()) if server.address.scheme == "https" else None

    def open(self, until: float) -> socket.socket:
        """A new connection.

        Raises:
            OSError: it cannot be opened; TimeoutError: not in time.
            ConfigError: a certificate's file is no longer what it should be.
        """
        address = self._server.address
        if address.scheme == "unix":
            return _connected((socket.AF_UNIX, socket.SOCK_STREAM, 0, address.path), until)
        link = _first_of(_addresses(address, until), until)
        try:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._secured(link, until) if self._tls else link
        except BaseException:
            link.close()
            raise

    def _secured(self, link: socket.socket, until: float) -> socket.socket:
        link.settimeout(left(until))  # bounds the whole handshake, not each step of it
        return self._context().wrap_socket(link, server_hostname=self._server.address.host)

    def _context(self) -> ssl.SSLContext:
        """Made anew if a file has changed: certificates are short-lived, programs are not."""
        stamps, known = cast("tuple[object, ssl.SSLContext]", self._tls)
        now = self._stamps()
        if now != stamps:
            known = self._server.tls()
            self._tls = (now, known)
        return known

    def _stamps(self) -> object:
        named = (self._server.ca, self._server.client_cert, self._server.client_key)
        found = [os.stat(path) for path in named if path is not None and os.path.exists(path)]  # noqa: PTH110, PTH116
        return [(status.st_mtime_ns, status.st_ino, status.st_size) for status in found]


def _addresses(address: Address, until: float) -> list[_Found]:
    """Numbers at once; names in a thread of their own, because a look-up knows no deadline."""
    try:
        return _looked_up(address, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    answers: queue.SimpleQueue[list[_Found] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(_looked_up(address, 0))
        except OSError as error:
            answers.put(error)

    threading.Thread(target=look_up, name="fumehood-name", daemon=True).start()
    try:
        found = answers.get(timeout=left(until))
    except queue.Empty:
        raise TimeoutError(f"the name {address.host} was not found in time") from None
    if isinstance(found, Exception):
        raise OSError(f"the name {address.host} is not known: {found}") from found
    return found


def _looked_up(address: Address, flags: int) -> list[_Found]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, kind, protocol, where) for family, kind, protocol, _, where in found]


def _first_of(places: list[_Found], until: float) -> socket.socket:
    """A connection to the first that accepts one; each gets its share of the time that is left."""
    for number, place in enumerate(places):
        share = time.monotonic() + left(until) / (len(places) - number)
        try:
            return _connected(place, share)
        except OSError:
            if place is places[-1]:
                raise
    raise OSError("the name has no address")


def _connected(place: _Found, until: float) -> socket.socket:
    family, kind, protocol, where = place
    link = socket.socket(family, kind, protocol)
    try:
        link.settimeout(left(until))
        link.connect(where)
    except BaseException:
        link.close()
        raise
    return link


def send(link: socket.socket, data: bytes, until: float) -> None:
    """All of *data*, before *until*, however slowly it is taken."""
    view = memoryview(data)
    while view:
        link.settimeout(left(until))
        view = view[link.send(view[:_CHUNK]) :]


def is_quiet(link: socket.socket) -> bool:
    """True if nothing came over an idle connection: no end, and nothing that could pass for an answer."""
    if isinstance(link, ssl.SSLSocket) and link.pending():
        return False
    poll = select.poll()
    poll.register(link, select.POLLIN)
    return not poll.poll(0)


class Answer(io.BufferedReader):
    """What comes back over *link* before *until*; for http.client, which takes it for a socket."""

    def __init__(self, link: socket.socket, until: float) -> None:
        self._incoming = _Incoming(link, until)
        super().__init__(self._incoming)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return self

    def close(self) -> None:
        """Nothing: what is left over has still to be looked at."""

    def has_more(self) -> bool:
        """True if more has come than was read."""
        self._incoming.is_over = True
        return bool(self.peek(1))


class _Incoming(io.RawIOBase):
    def __init__(self, link: socket.socket, until: float) -> None:
        self._link, self._until = link, until
        self.is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if self.is_over:
            return None  # "nothing yet"
        self._link.settimeout(left(self._until))
        return self._link.recv_into(buffer)
