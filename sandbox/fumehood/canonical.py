"""One canonical form (RFC 8785) for digests, the ledger and the screen.

What does not survive being written as JSON and read again is refused here, with the JSON Pointer
(RFC 6901) of the place: non-finite numbers, integers from 2**53, keys that are not strings,
lone surrogates, values that are not JSON, documents nested deeper than MAX_DEPTH.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Mapping
from typing import cast

import rfc8785

from fumehood.errors import BindError

__all__ = [
    "JSON",
    "MAX_DEPTH",
    "MAX_DOCUMENT_BYTES",
    "at",
    "canonical",
    "digest",
    "escape",
    "keyed_digest",
    "leaves",
    "mac",
    "parse",
    "require_plain",
    "require_small",
]

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

MAX_DEPTH = 64  # regorus accepts about 128; half of that leaves room for the envelope
MAX_DOCUMENT_BYTES = 1 << 20
_MAX_INT = 2**53
_LEAF_BYTES = 8  # at least, with its provenance: `1,` and `"":[],`, in which its pointer stands
_INDEX = re.compile(r"(?:0|[1-9][0-9]{0,8})\Z")  # RFC 6901: no leading zeros, no other digits


def canonical(value: object) -> bytes:
    """The canonical JSON of *value*, UTF-8.

    Raises:
        BindError: with the pointer of the first place that is not plain JSON.
    """
    require_plain(value)
    return rfc8785.dumps(cast("dict[str, object]", value))  # type: ignore[arg-type]


def require_plain(value: object) -> None:
    """Nothing, if *value* is plain JSON that means the same to every reader.

    Raises:
        BindError: with the pointer of the first place that is not.
    """
    _check(value, "", 0)


def require_small(value: object) -> None:
    """Nothing, if a policy input with the arguments *value* may have at most MAX_DOCUMENT_BYTES.

    It is looked at before anything else is done with arguments, because a million values cost minutes
    further on: what is certain is counted, and what is no plain JSON is not looked into.

    Raises:
        BindError: it is larger for certain.
    """
    left = MAX_DOCUMENT_BYTES
    stack: list[tuple[object, int]] = [(dict(value) if isinstance(value, Mapping) else value, 0)]
    seen: set[int] = set()
    while stack:
        here, length = stack.pop()  # with the length of its pointer, at least
        if not isinstance(here, list | tuple | dict):
            left -= _LEAF_BYTES + length + (len(here) if isinstance(here, str) else 0)
        elif len(here) * (_LEAF_BYTES + length + 2) > left:
            left = -1
        elif id(here) not in seen:  # what holds itself is found elsewhere
            seen.add(id(here))
            if isinstance(here, dict):
                names = [len(name) if isinstance(name, str) else 0 for name in here]
                left -= sum(names)
                stack.extend(
                    (item, length + 1 + size) for item, size in zip(here.values(), names, strict=True)
                )
            else:
                stack.extend((item, length + 1 + len(str(i))) for i, item in enumerate(here))
        if left < 0:
            raise BindError(
                f"the arguments are too large: a policy input has at most {MAX_DOCUMENT_BYTES} bytes, and "
                "each value takes some; write what is large to a file and pass its path"
            )


def parse(text: str | bytes) -> JSON:
    """Parse JSON strictly: no NaN, no repeated keys.

    Raises:
        BindError: not JSON, or JSON that would not mean the same to every reader.
    """
    try:
        return cast(
            "JSON",
            json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_repeats),
        )
    except (ValueError, RecursionError) as error:
        raise BindError(f"not valid JSON: {error}") from error


def digest(data: bytes) -> str:
    """`sha256:` and the hex digest of *data*."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def keyed_digest(key: bytes, value: object) -> str:
    """`hmac-sha256:` and the hex MAC of *value*'s canonical form under *key*."""
    return mac(key, canonical(value))


def mac(key: bytes, data: bytes) -> str:
    """`hmac-sha256:` and the hex MAC of *data* under *key*."""
    return "hmac-sha256:" + hmac.digest(key, data, "sha256").hex()


def escape(token: str) -> str:
    """*token* as one reference token of a JSON Pointer."""
    return token.replace("~", "~0").replace("/", "~1")


def at(document: JSON, pointer: str) -> JSON:
    """The value at *pointer*.

    Raises:
        KeyError: there is none.
    """
    here = document
    for raw in pointer.split("/")[1:]:
        token = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(here, dict) and token in here:
            here = here[token]
        elif isinstance(here, list) and _INDEX.match(token) and int(token) < len(here):
            here = here[int(token)]
        else:
            raise KeyError(pointer)
    return here


def leaves(document: JSON, pointer: str = "") -> list[tuple[str, JSON]]:
    """Every scalar of *document* with its pointer, in document order; empty containers count as leaves."""
    if isinstance(document, dict) and document:
        return [leaf for key, value in document.items() for leaf in leaves(value, f"{pointer}/{escape(key)}")]
    if isinstance(document, list) and document:
        return [leaf for index, value in enumerate(document) for leaf in leaves(value, f"{pointer}/{index}")]
    return [(pointer, document)]


def _check(value: object, pointer: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BindError(f"nested deeper than {MAX_DEPTH} levels; flatten it", pointer=pointer)
    kind = type(value)
    if value is None or kind is bool:
        return
    if kind is str:
        _check_text(cast("str", value), pointer)
    elif kind is int or kind is float:
        _check_number(cast("float", value), pointer)
    elif kind is list:
        for index, item in enumerate(cast("list[object]", value)):
            _check(item, f"{pointer}/{index}", depth + 1)
    elif kind is dict:
        _check_object(cast("dict[object, object]", value), pointer, depth)
    else:
        raise BindError(
            f"a {kind.__name__} is not JSON; declare a text, number, list or object", pointer=pointer
        )


def _check_number(value: float, pointer: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise BindError("a number that is not finite has no JSON form; send null instead", pointer=pointer)
    if abs(value) >= _MAX_INT:
        raise BindError(
            "a number of 2**53 or more is not exact for every JSON reader; declare it as a string",
            pointer=pointer,
        )


def _check_object(value: dict[object, object], pointer: str, depth: int) -> None:
    for key, item in value.items():
        if type(key) is not str:
            raise BindError(f"the key {key!r} is not a string; use string keys", pointer=pointer)
        _check_text(key, pointer)
        _check(item, f"{pointer}/{escape(key)}", depth + 1)


def _check_text(text: str, pointer: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BindError(
            "the text holds a lone surrogate, which is not Unicode; decode it first",
            pointer=pointer,
        ) from None


def _no_constant(name: str) -> JSON:
    raise ValueError(f"{name} is not JSON")


def _no_repeats(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    found: dict[str, JSON] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found
