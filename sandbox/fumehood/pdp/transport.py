"""A thin keep-alive HTTP transport with one deadline for the whole exchange.

Ours, because a decision needs what opa_client's queries do not give: a deadline that a server which
drips bytes cannot stretch, OPA's own error text, and no retries.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from typing import cast
from urllib.parse import urlsplit

from fumehood.errors import ConfigError, PdpError

__all__ = ["Transport"]

_MAX_ANSWER = 16 << 20
_MAX_IDLE = 32


class Transport:
    """Connections to one server, reused. Thread-safe; a forked child opens its own."""

    def __init__(self, url: str, *, headers: Mapping[str, str]) -> None:
        self._scheme, self.host, self.port = _parts(url)
        self._headers = {"Content-Type": "application/json", **headers}
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._pid = os.getpid()

    @property
    def is_tls(self) -> bool:
        return self._scheme == "https"

    def post(self, path: str, body: bytes, *, within_s: float) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            PdpError: `pdp_unreachable`, `pdp_timeout` or `pdp_malformed`.
        """
        until = time.monotonic() + within_s
        connection, is_reused = self._take()
        try:
            return self._exchange(connection, path, body, until)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
            connection.close()
            if not is_reused:
                raise PdpError(
                    f"the OPA server closed the connection: {error}", code="pdp_unreachable"
                ) from error
        except TimeoutError as error:
            connection.close()
            raise PdpError(
                f"the OPA server did not answer within {within_s} s", code="pdp_timeout"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise PdpError(f"the OPA server cannot be reached: {error}", code="pdp_unreachable") from error
        except BaseException:
            connection.close()
            raise
        self._forget_idle()  # the server had closed it while it was idle: nothing was asked
        return self.post(path, body, within_s=max(0.001, until - time.monotonic()))

    def close(self) -> None:
        """Close the idle connections."""
        self._forget_idle()

    def _exchange(
        self, connection: http.client.HTTPConnection, path: str, body: bytes, until: float
    ) -> tuple[int, bytes]:
        connection.timeout = _left(until)
        if connection.sock is None:
            connection.connect()  # sets TCP_NODELAY
        link = cast("socket.socket", connection.sock)
        link.settimeout(_left(until))
        connection.request("POST", path, body, self._headers)
        with closing(connection.getresponse()) as response:
            answer = _read(response, link, until)
        if response.will_close:
            connection.close()
        self._give_back(connection)
        return response.status, answer

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            if self._pid != os.getpid():  # the sockets are the parent's
                self._idle, self._pid = [], os.getpid()
            if self._idle:
                return self._idle.pop(), True
        if self.is_tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self.host, self.port, context=context), False
        return http.client.HTTPConnection(self.host, self.port), False

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < _MAX_IDLE and connection.sock is not None:
                self._idle.append(connection)
                return
        connection.close()

    def _forget_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def _read(response: http.client.HTTPResponse, link: socket.socket, until: float) -> bytes:
    """The whole body, or an exception."""
    parts: list[bytes] = []
    size = 0
    while True:
        link.settimeout(_left(until))
        part = response.read1(65536)
        if not part:
            break
        parts.append(part)
        size += len(part)
        if size > _MAX_ANSWER:
            raise PdpError("the OPA server's answer is too long", code="pdp_malformed")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    response.read()  # read1 leaves the exchange open
    return b"".join(parts)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _parts(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"pdp={url!r} is not a URL: {error}") from error
    is_plain = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username)
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain:
        raise ConfigError(f'pdp={url!r}: expected a server such as "http://127.0.0.1:8181"')
    return parts.scheme, parts.hostname, port or {"http": 80, "https": 443}[parts.scheme]
