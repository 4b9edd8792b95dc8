"""Which OPA server decides, and how it is reached and known: what a user may say about it."""

from __future__ import annotations

import math
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from fumehood.errors import ConfigError

__all__ = ["TOKEN", "Address", "OpaServer", "server_of"]

TOKEN = "FUMEHOOD_OPA_TOKEN"  # noqa: S105 - the name of a variable
_LONGEST_SOCKET = 107  # bytes of a path, see unix(7)
_MARKS = str.maketrans(dict.fromkeys(range(33)) | {127: None})

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: host and port, or the path of a Unix socket."""

    scheme: Literal["http", "https", "unix"]
    host: str = "localhost"
    port: int = 0
    path: str = ""

    @property
    def authority(self) -> str:
        """What the `Host` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.scheme == "unix" else f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaServer:
    """An OPA server that decides: `Guard("./policies", pdp=OpaServer("https://opa:8181", ca="ca.pem"))`.

    Args:
        url: "http://host:port", "https://host:port" or "unix:///path/of/socket".
        ca: a PEM file; a certificate of the server must lead to one in it. Else the system's are trusted.
        client_cert: a PEM file with the certificate (and what leads to its CA) that this client shows.
        client_key: a PEM file with its private key, not encrypted. Else it is in *client_cert*.
        token: sent as a bearer token; else $FUMEHOOD_OPA_TOKEN, else none is.
        deadline_s: seconds for one decision, everything included: name, connection, TLS, answer.
        upload: whether the policies are put there if they are not there. False: the server has them from
            elsewhere (`fumehood policy build` makes a bundle that it loads), and nothing of it is changed.
        wait_s: seconds to wait at the start for a server that is not ready yet.

    Certificates are read again whenever a connection is opened and a file has changed.

    Raises:
        ConfigError: no such server or file, or settings that do not go together.
    """

    url: str = field(kw_only=False)
    ca: PathLike | None = None
    client_cert: PathLike | None = None
    client_key: PathLike | None = None
    token: str | None = field(default=None, repr=False)
    deadline_s: float = 2.0
    upload: bool = True
    wait_s: float = 0.0

    def __post_init__(self) -> None:
        if address_of(self.url).scheme != "https":
            for name in ("ca", "client_cert", "client_key"):
                if getattr(self, name) is not None:
                    raise ConfigError(f"OpaServer({name}=…) is for https, and the URL is {self.url!r}")
        if self.client_key is not None and self.client_cert is None:
            raise ConfigError(
                "OpaServer(client_key=…) needs client_cert=, the certificate that it belongs to"
            )
        for name in ("deadline_s", "wait_s"):
            seconds = getattr(self, name)
            is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
            if not is_number or not math.isfinite(seconds) or seconds < 0 or seconds > 3600:
                raise ConfigError(f"OpaServer({name}={seconds!r}): expected seconds, 0 to 3600")
        if self.deadline_s == 0:
            raise ConfigError("OpaServer(deadline_s=0): no server answers in no time")
        if self.token is not None and not _is_token(self.token):
            raise ConfigError("OpaServer(token=…): expected a text of printable ASCII without blanks")

    @property
    def address(self) -> Address:
        return address_of(self.url)

    @property
    def bearer(self) -> str | None:
        """The token to send.

        Raises:
            ConfigError: that of the environment cannot be one.
        """
        token = self.token or os.environ.get(TOKEN) or None
        if token is not None and not _is_token(token):
            raise ConfigError(f"${TOKEN}: expected printable ASCII without blanks or line ends")
        return token

    @property
    def files(self) -> tuple[str, ...]:
        """The paths that this trusts: nobody but the operator may write there."""
        named = [self.ca, self.client_cert, self.client_key, self.address.path or None]
        return tuple(os.path.realpath(path) for path in named if path is not None)

    def tls(self) -> ssl.SSLContext:
        """What a connection is secured with.

        Raises:
            ConfigError: a file is missing or is not what it should be.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise _unusable("ca", self.ca, error) from error
        if self.client_cert is not None:
            try:
                context.load_cert_chain(self.client_cert, self.client_key, password=_no_password)
            except OSError as error:
                raise _unusable("client_cert", self.client_cert, error) from error
        return context


def server_of(given: str | OpaServer) -> OpaServer:
    """The settings that a bare URL stands for, or *given* itself."""
    if isinstance(given, OpaServer):
        return given
    if not isinstance(given, str):
        raise ConfigError(f"pdp={given!r}: expected the URL of an OPA server, or OpaServer(…)")
    return OpaServer(given)


def address_of(url: str) -> Address:
    """Where *url* leads.

    Raises:
        ConfigError: it names no server.
    """
    if not isinstance(url, str):
        raise ConfigError(f"pdp={url!r}: expected the URL of an OPA server, a text")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"pdp={url!r} is not a URL: {error}") from error
    has_more = bool(parts.query or parts.fragment or "@" in parts.netloc or url.translate(_MARKS) != url)
    if parts.scheme == "unix":
        return _socket_of(url, parts.path if not (parts.netloc or has_more) else "")
    if parts.scheme in ("http", "https") and parts.hostname and not parts.path.strip("/") and not has_more:
        scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
        return Address(scheme, _ascii(parts.hostname, url), port or {"http": 80, "https": 443}[scheme])
    raise ConfigError(
        f'pdp={url!r}: expected a server such as "http://127.0.0.1:8181", "https://opa.internal:8181" or '
        '"unix:///run/opa/opa.sock"'
    )


def _ascii(host: str, url: str) -> str:
    """*host* as it is looked up and shown to the server."""
    try:
        return host.encode("idna").decode()
    except UnicodeError as error:
        raise ConfigError(f"pdp={url!r}: {host!r} is not the name of a host: {error}") from error


def _socket_of(url: str, path: str) -> Address:
    if not Path(path).is_absolute() or path.endswith("/"):
        raise ConfigError(f'pdp={url!r}: expected an absolute path, such as "unix:///run/opa/opa.sock"')
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise ConfigError(
            f"pdp={url!r}: the path of a Unix socket has at most {_LONGEST_SOCKET} bytes; use a shorter one"
        )
    return Address("unix", path=path)


def _is_token(token: object) -> bool:
    return isinstance(token, str) and bool(token) and all("!" <= c <= "~" for c in token)


def _unusable(name: str, path: PathLike | None, error: OSError) -> ConfigError:
    given = os.fspath(path) if path else None
    return ConfigError(f"OpaServer({name}={given!r}) cannot be used: {error}. Expected a PEM file.")


def _no_password() -> str:
    """Instead of a question at the terminal, in the middle of a program."""
    raise ConfigError(
        "OpaServer(client_key=…): the private key is encrypted and nobody can be asked for its password; "
        "give one that is not, in a file that only this program may read"
    )
