"""A thin keep-alive HTTP transport with one deadline for the whole exchange.

Ours, because a decision needs what opa_client's own queries do not give: a deadline that a server which
drips bytes cannot stretch, Unix sockets, and no answer that was meant for another question. What opa_client
administrates goes through here, too.
"""

from __future__ import annotations

import http.client
import os
import socket
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from fumehood.errors import ConfigError, PdpError
from fumehood.pdp.connecting import Answer, Connector, is_quiet, send
from fumehood.pdp.server import OpaServer

__all__ = ["Response", "Transport"]

_MAX_ANSWER = 16 << 20
_MAX_IDLE = 32
_SILENT = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


@dataclass(frozen=True, slots=True)
class Response:
    """What the server said."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Transport:
    """Connections to one server, reused. Thread-safe; a forked child opens its own."""

    def __init__(self, server: OpaServer) -> None:
        self._connector = Connector(server)
        bearer = server.bearer
        said = {"Host": server.address.authority, "Accept": "application/json"}
        if bearer:
            said["Authorization"] = f"Bearer {bearer}"
        self._head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        self._idle: deque[socket.socket] = deque()
        self._pid = os.getpid()

    def post(self, path: str, body: bytes, *, within_s: float) -> Response:
        """`exchange` with POST."""
        return self.exchange("POST", path, body, within_s=within_s)

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        within_s: float,
        content_type: str = "application/json",
    ) -> Response:
        """What the server answers, asked again only if it had closed an idle connection.

        Raises:
            PdpError: `pdp_unreachable`, `pdp_timeout` or `pdp_malformed`.
        """
        until = time.monotonic() + within_s
        what = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n" if body else ""
        request = f"{method} {path} HTTP/1.1\r\n{self._head}{what}\r\n".encode("latin-1") + body
        try:
            idle = self._take()
            try:
                return self._exchange(idle or self._connector.open(until), method, request, until)
            except _SILENT:
                if idle is None:
                    raise
            self.close()  # the others are as old
            return self._exchange(self._connector.open(until), method, request, until)
        except TimeoutError as error:
            text = f"the OPA server did not answer within {within_s:g} s"
            raise PdpError(text, code="pdp_timeout") from error
        except (*_SILENT, http.client.IncompleteRead, OSError, ConfigError) as error:
            raise PdpError(f"the OPA server cannot be reached: {error}", code="pdp_unreachable") from error
        except (http.client.HTTPException, ValueError) as error:
            text = f"what the server answers is not HTTP: {error!r}"
            raise PdpError(text, code="pdp_malformed") from error

    def close(self) -> None:
        """Close the idle connections."""
        while (idle := self._pop()) is not None:
            idle.close()

    def _exchange(self, link: socket.socket, method: str, request: bytes, until: float) -> Response:
        is_kept = False
        try:
            send(link, request, until)
            answer = Answer(link, until)
            response = http.client.HTTPResponse(cast("socket.socket", answer), method=method)
            response.begin()
            found = Response(response.status, _body(response), dict(response.headers))
            is_kept = not (response.will_close or answer.has_more())
            return found
        finally:
            if is_kept and len(self._idle) < _MAX_IDLE:
                self._idle.append(link)
            else:
                link.close()

    def _take(self) -> socket.socket | None:
        """An idle connection on which nothing has come meanwhile."""
        if self._pid != os.getpid():  # they are the parent's
            self.close()
            self._pid = os.getpid()
        while (idle := self._pop()) is not None:
            if is_quiet(idle):
                return idle
            idle.close()
        return None

    def _pop(self) -> socket.socket | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None


def _body(response: http.client.HTTPResponse) -> bytes:
    """The whole body, or an exception."""
    parts: list[bytes] = []
    size = 0
    while part := response.read1(65536):
        parts.append(part)
        size += len(part)
        if size > _MAX_ANSWER:
            raise PdpError("the OPA server's answer is too long", code="pdp_malformed")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    response.read()  # read1 leaves the exchange open
    return b"".join(parts)
