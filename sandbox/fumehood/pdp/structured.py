"""Digests of a bundle's files, as OPA computes them: of bytes, or of what a data document means.

The digest of `data.json`, `data.yaml` and `.manifest` does not depend on blanks or the order of keys; a
number counts as it is written in JSON. Source: v1/bundle/hash.go and verify.go of OPA.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import NoReturn, cast

from fumehood.canonical import JSON, canonical
from fumehood.errors import BindError
from fumehood.pdp.yamldata import read_yaml

__all__ = ["ALGORITHMS", "digest_of"]

#: OPA also knows MD5 and SHA-1, for which two files with one digest can be made.
ALGORITHMS = {
    "SHA-224": hashlib.sha224,
    "SHA-256": hashlib.sha256,
    "SHA-384": hashlib.sha384,
    "SHA-512": hashlib.sha512,
}
_MEANT = frozenset({"data.json", "data.yaml", ".manifest"})


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


def digest_of(name: str, content: bytes, algorithm: str) -> str:
    """The digest in hexadecimal of the file *name*; *algorithm* is one of `ALGORITHMS`.

    Raises:
        ValueError: a data document that is none (`BindError`, `YamlError` or UnicodeError are mapped to it).
    """
    state = ALGORITHMS[algorithm]()
    if PurePosixPath(name).name in _MEANT:
        for part in _walk(_document(name, content)):
            state.update(part)
    else:
        state.update(content)
    return state.hexdigest()


def _document(name: str, content: bytes) -> object:
    text = content.decode()
    if name.endswith(".yaml"):
        return read_yaml(text)
    try:
        return json.loads(
            text,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_no_constant,
            object_pairs_hook=_no_repeats,
        )
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _walk(value: object) -> Iterator[bytes]:
    if isinstance(value, dict):
        yield b"{"
        for number, key in enumerate(sorted(cast("Mapping[str, object]", value))):
            yield (b"," if number else b"") + _text(key) + b":"
            yield from _walk(value[key])
        yield b"}"
    elif isinstance(value, list):
        yield b"["
        for number, item in enumerate(value):
            yield b"," if number else b""
            yield from _walk(item)
        yield b"]"
    elif isinstance(value, _Number):
        yield value.encode()
    elif isinstance(value, str):
        yield _text(value)
    else:
        yield _scalar(cast("JSON", value))


def _text(text: str) -> bytes:
    """As Go's encoder writes it, without HTML's escapes; a lone surrogate is a ValueError."""
    return (
        json.dumps(text, ensure_ascii=False)
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
        .encode()
    )


def _scalar(value: JSON) -> bytes:
    try:
        return canonical(value)
    except BindError as error:
        raise ValueError(str(error)) from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found
