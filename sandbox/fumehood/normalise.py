"""What Rego cannot work out: `..` in a path, a host's case, a shell's words. Pure; no file is looked at.

Every text in the arguments is tried as each of the three. Whatever two readers could understand
differently is absent, never guessed at: `call.path`, `call.url` and `call.argv` then answer a value
that no bound matches. Symbolic links are not followed (only the kernel can, when the file is
opened). Sources: RFC 3986 (sections 5.2.4 and 6.2.2), the WHATWG URL standard (hosts that are
numbers), POSIX shell 2.2 (quoting).
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
import unicodedata
from typing import cast

from fumehood.canonical import JSON, escape, leaves

__all__ = ["normalised", "path_of", "url_of", "words_of"]

_MAX_PATH = 4096
_MAX_URL = 8192
_MAX_COMMAND = 8192
_MAX_TEXTS = 256  # arguments with more texts than this get none of the three beyond it

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

# One piece of a word: bare characters that mean nothing to a shell, or a quotation without expansions.
_PIECE = re.compile(r"""(?P<bare>[\w@%+:,./=-]+)|'(?P<single>[^'\x00]*)'|"(?P<double>[^"$`\\!\x00]*)\"""")
_BLANKS = re.compile(r"[ \t]+")
# What a shell does not take for the program's name, and a reader that only splits words does.
_NO_PROGRAM = re.compile(
    r"[ \t]*(?:[A-Za-z_][A-Za-z0-9_]*\+?="
    r"|(?:if|then|elif|else|fi|for|in|do|done|case|esac|while|until|select|function|time|coproc)(?:[ \t]|\Z))"
)


def normalised(args: JSON, *, cwd: str | None = None) -> JSON:
    """`{"paths": {pointer: …}, "urls": {pointer: …}, "argv": {pointer: …}}` for the texts in *args*.

    A relative path is taken from *cwd*, an absolute path; without it relative paths are absent. A list
    of texts is an argument vector as it stands.
    """
    texts = [(at, value) for at, value in leaves(args) if isinstance(value, str)][:_MAX_TEXTS]
    found: dict[str, dict[str, JSON]] = {"paths": {}, "urls": {}, "argv": {}}
    for pointer, text in texts:
        _add(found["paths"], pointer, path_of(text, cwd=cwd))
        _add(found["urls"], pointer, url_of(text))
        _add(found["argv"], pointer, words_of(text))
    _add_vectors(found["argv"], args, "")
    return {kind: values for kind, values in found.items() if values}


def path_of(text: str, *, cwd: str | None = None) -> str | None:
    """*text* as an absolute path without `.`, `..`, doubled or trailing slashes."""
    if not text or len(text) > _MAX_PATH or "\0" in text or text.startswith("~"):
        return None
    if not text.startswith("/"):
        if cwd is None or not cwd.startswith("/") or "://" in text:
            return None
        text = f"{cwd}/{text}"
    return "/" + posixpath.normpath(text).lstrip("/")


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


def words_of(text: str) -> JSON:
    """The words of *text* if it is one simple command: no operator, expansion, pattern or open quote.

    Absent too where a shell sees an assignment or a reserved word first (`X=1 rm`, `time rm`).
    """
    if not text or len(text) > _MAX_COMMAND or _NO_PROGRAM.match(text):
        return None
    words: list[JSON] = []
    at = _skip(text, 0)
    while at < len(text):
        word, end = _word(text, at)
        if end == at:
            return None
        words.append(word)
        at = _skip(text, end)
        if at == end and at < len(text):
            return None
    return words or None


def _add(found: dict[str, JSON], pointer: str, value: JSON) -> None:
    if value is not None:
        found[pointer] = value


def _add_vectors(found: dict[str, JSON], value: JSON, pointer: str) -> None:
    if isinstance(value, list):
        if value and all(isinstance(item, str) and item and "\0" not in item for item in value):
            found[pointer] = value
        for index, item in enumerate(value):
            _add_vectors(found, item, f"{pointer}/{index}")
    elif isinstance(value, dict):
        for key, item in value.items():
            _add_vectors(found, item, f"{pointer}/{escape(key)}")


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
    if label.isascii():
        return label if not label.startswith("xn--") or _is_punycode(label) else None
    is_plain = all(unicodedata.category(char)[0] in "LM" or char in _DIGITS for char in label)
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


def _skip(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    return blanks.end() if blanks else at


def _word(text: str, at: int) -> tuple[str, int]:
    """The word at *at* and where it ends; it ends where it began if there is none."""
    parts: list[str] = []
    while piece := _PIECE.match(text, at):
        parts.append(cast("str", piece[cast("str", piece.lastgroup)]))
        at = piece.end()
    return "".join(parts), at
