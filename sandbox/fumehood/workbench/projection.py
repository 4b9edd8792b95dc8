"""What of a policy input a decision can hang on, as a key: inputs with one key are decided alike.

Most of a recorded input (its time, the digest, the arguments that no rule looks at) differs from call to
call and changes nothing. `Reads` says soundly what the rules may read; the key holds just that.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from fumehood.canonical import JSON, MAX_DOCUMENT_BYTES
from fumehood.workbench.reads import Path

__all__ = ["Kept", "Projection", "is_plain"]

_MAX_KEY_BYTES = 16 * 1024
_FORMS: Path = ("context", "normalised")
_WHY: Path = (*_FORMS, "unparseable")  # the library says why something was not parsed
_ALWAYS: tuple[Path, ...] = (("resource", "id"), ("resource", "properties", "runs"))
_DEPTH = 100  # regorus refuses a document that is nested deeper than about 128
_ODD = (b"NaN", b"Infinity", b"\\ud", b"\\uD")  # read by Python, and refused by the policy engine

T = TypeVar("T")

Tree = Mapping[str, "Tree | None"]  # None: the value with all that is in it


class Kept(Generic[T]):
    """What was found out by key, the last *size* of it. For one thread."""

    def __init__(self, size: int) -> None:
        self._found: dict[bytes, T] = {}
        self._size = size

    def get(self, key: bytes) -> T | None:
        return self._found.get(key)

    def put(self, key: bytes, value: T) -> T:
        """Keep *value*, and return it."""
        if len(self._found) >= self._size:
            del self._found[next(iter(self._found))]
        self._found[key] = value
        return value


class Projection:
    """The parts of policy inputs at some paths. `has_forms`: a parsed argument may be one of them."""

    def __init__(self, paths: Iterable[Path]) -> None:
        known = {*paths, *_ALWAYS}
        self.has_forms = any(path[:2] == _FORMS[: len(path)] for path in known)
        if self.has_forms:
            known.add(_WHY)
        self._tree = _tree(known)

    def key(self, content: JSON) -> bytes | None:
        """The same for two inputs only if they have the same at all paths; None: too much to be kept."""
        found = marshal.dumps(_picked(content, self._tree), 2)  # 2: no references, types apart (1, 1.0, True)
        return found if len(found) <= _MAX_KEY_BYTES else None


def is_plain(document: bytes, content: JSON) -> bool:
    """True if the policy engine reads *document*, whose *content* Python has read, without complaint."""
    if len(document) > MAX_DOCUMENT_BYTES or any(odd in document for odd in _ODD):
        return False
    brackets = document.count(b"[") + document.count(b"{")
    return brackets <= _DEPTH or _is_flat(content, _DEPTH)


def _is_flat(value: JSON, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    items = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_flat(item, depth - 1) for item in items)


def _tree(paths: Iterable[Path]) -> Tree | None:
    """What is below each first step; a path that ends holds all that is below it."""
    below: dict[str, list[Path]] = {}
    for path in paths:
        if not path:
            return None
        below.setdefault(path[0], []).append(path[1:])
    return {step: _tree(below[step]) for step in sorted(below)}


def _picked(value: JSON, tree: Tree | None) -> Any:
    """A tuple for an object of which parts are wanted (… where it lacks one), else the value itself."""
    if tree is None or not isinstance(value, dict):
        return value
    return tuple(_picked(value[step], tree[step]) if step in value else ... for step in tree)
