"""A URL in one form, or none: whatever two readers could understand differently is refused. Pure.

Sources: RFC 3986 (sections 5.2.4 and 6.2.2), the WHATWG URL standard (hosts that are numbers), RFC 3490 and
RFC 5891 (names that are not ASCII), RFC 6052 (NAT64).
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from typing import cast

from fumehood.canonical import JSON

__all__ = ["url_of"]

_MAX_URL = 8192
_MAX_LABEL = 63
# Letters and marks that are mapped to nothing (Unicode's Default_Ignorable_Code_Point, without its format
# characters, which are neither).
_IGNORED = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0000-\U000e0fff]"
)
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\x00-,/:;<=>?@\[\\\]^`{|}~\x7f]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#\s\\\x00-\x20]*)?"
    r"(?:\?(?P<query>[^#\s\\\x00-\x20]*))?"
    r"(?:#[^\s\\\x00-\x20]*)?"
)
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21, "ssh": 22}
_DIGITS = frozenset("0123456789-")
_NUMERIC_LABEL = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)\Z")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})?")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def url_of(text: str) -> JSON:
    """*text* as `{scheme, host, port, path, query, reach}`: no user information, no host read in two ways.

    `port` is the scheme's own where none is given, 0 where that is not known; `host` is in punycode;
    `reach` says what an address leads to (`loopback`, `private`, `link_local`, `reserved`, `public`), and
    `name` that it is a name, of which nobody knows it.
    """
    match = _URL.fullmatch(text) if "://" in text and len(text) <= _MAX_URL else None
    if match is None:
        return None
    scheme = match["scheme"].lower()
    if match["path"] is None and "@" in text:  # `https://a?@b`: b is the host to readers that are old
        return None
    host = _host(match["host"].lower())
    port = int(match["port"]) if match["port"] else _PORTS.get(scheme, 0)
    path = _url_path(match["path"] or "/")
    if host is None or port > 65535 or path is None:
        return None
    query = match["query"] or ""
    return {"scheme": scheme, "host": host, "port": port, "path": path, "query": query, "reach": _reach(host)}


def _host(host: str) -> str | None:
    if host.startswith("["):
        return _address(host[1:-1], version=6)
    name = host.removesuffix(".")
    if _NUMERIC_LABEL.match(name.rsplit(".", 1)[-1]):
        return _address(name, version=4)
    labels = [_ascii_label(label) for label in name.split(".")]
    if not all(label and _LABEL.match(label) for label in labels):
        return None
    name = ".".join(cast("list[str]", labels))
    return name if len(name) <= 253 else None


def _ascii_label(label: str) -> str | None:
    """In punycode where it is not ASCII; None if IDNA 2003 and 2008 could map it to different names.

    A label that is its own NFKC and case folding, of letters, marks and digits only, is mapped by neither.
    """
    if len(label) > _MAX_LABEL:  # punycode takes the square of the length
        return None
    if label.isascii():
        return label if not label.startswith("xn--") or _is_punycode(label) else None
    is_plain = _IGNORED.search(label) is None and all(
        unicodedata.category(char)[0] in "LM" or char in _DIGITS for char in label
    )
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    if not is_plain or folded != label or unicodedata.category(label[0])[0] == "M":
        return None
    return "xn--" + label.encode("punycode").decode()


def _is_punycode(label: str) -> bool:
    """Whether an `xn--` label is what its own Unicode form would be written as."""
    try:
        decoded = label[4:].encode().decode("punycode")
        return not decoded.isascii() and _ascii_label(decoded) == label
    except (UnicodeError, ValueError, OverflowError):
        return False


def _reach(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "loopback" if host == "localhost" or host.endswith(".localhost") else "name"
    inner = _embedded(address)
    if inner is not None and (found := _reach(str(inner))) != "public":
        return found
    kinds = (
        ("loopback", address.is_loopback),
        ("link_local", address.is_link_local),
        ("reserved", address.is_unspecified or address.is_multicast or address.is_reserved),
    )
    known = next((name for name, is_it in kinds if is_it), None)
    return known or ("public" if address.is_global else "private")


def _embedded(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, 6to4, Teredo, NAT64 (RFC 6052)."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if int(address) >> 32 == 0x0064_FF9B_0000_0000_0000_0000:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)


def _address(text: str, *, version: int) -> str | None:
    """An IP address in its one canonical form, IPv4 also where IPv6 only wraps it; short, octal and
    hexadecimal forms are refused."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if address.version != version:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _url_path(path: str) -> str | None:
    """*path* with unreserved characters decoded and dot segments removed (RFC 3986, 6.2.2)."""
    if not path.isascii() or any(m[1] is None for m in _PERCENT.finditer(path)):
        return None
    decoded = _PERCENT.sub(_decoded, path)
    kept: list[str] = []
    segments = decoded.split("/")[1:]
    for segment in segments:
        if segment == "..":
            kept = kept[:-1]
        elif segment != ".":
            kept.append(segment)
    is_folder = segments[-1] in (".", "..") and kept[-1:] != [""]
    return "/" + "/".join([*kept, ""] if is_folder and kept else kept)


def _decoded(match: re.Match[str]) -> str:
    char = chr(int(match[1], 16))
    return char if char in _UNRESERVED else match[0].upper()
