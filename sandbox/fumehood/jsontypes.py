"""Which type hints are JSON's own: their values are the same after being written and read again.

Accepted: `bool`, `int`, `float`, `str`, `None`, `list`, `dict` with string keys, `TypedDict`, `Literal`,
unions and `Annotated` of these, `Any`. Everything else is made from JSON by somebody, and would not be made
in another process.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal, NewType, NotRequired, Required, Union

__all__ = ["ACCEPTED", "injected_by", "misfit"]

ACCEPTED: Final = "bool, int, float, str, None, list, dict[str, …], TypedDict, Literal, or a union of those"
_PLAIN: Final = (Any, object, None, type(None), bool, int, float, str, list, dict)
_FRAMEWORKS: Final = frozenset({"langchain", "langchain_core", "langgraph"})
_THROUGH: Final = (Union, types.UnionType, list, Required, NotRequired)


def misfit(hint: object) -> object | None:
    """The first part of *hint* that is not JSON's own; None if all of it is."""
    if any(hint is plain for plain in _PLAIN):
        return None
    if isinstance(hint, NewType):
        return misfit(hint.__supertype__)
    if isinstance(hint, type) and hasattr(hint, "__required_keys__"):  # of `typing` or `typing_extensions`
        return _first(typing.get_type_hints(hint).values())
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return next((part for part in parts if type(part) not in (bool, int, str, type(None))), None)
    if origin is Annotated:
        return misfit(parts[0])
    if origin is dict and parts:
        return misfit(parts[1]) if parts[0] is str else hint
    return _first(parts) if origin in _THROUGH else hint


def injected_by(hint: object) -> str | None:
    """The framework that fills in an argument of this *hint* itself, after the call was decided."""
    packages = (str(getattr(part, "__module__", "")).partition(".")[0] for part in _parts(hint))
    return next((package for package in packages if package in _FRAMEWORKS), None)


def _parts(hint: object) -> Iterator[object]:
    yield hint if isinstance(hint, type) else type(hint)
    for part in (*typing.get_args(hint), *getattr(hint, "__metadata__", ())):
        yield from _parts(part)


def _first(hints: Iterable[object]) -> object | None:
    return next((found for found in map(misfit, hints) if found is not None), None)
