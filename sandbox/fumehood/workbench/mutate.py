"""Hostile variants of one call: each argument removed, null, of another type, negative, of unknown origin.

A rule that only looks at what is there falls silent where it is not: the answer to a variant may be
stricter than the answer to the call, never looser.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from fumehood.canonical import JSON, escape
from fumehood.workbench.cases import Case, Kind
from fumehood.workbench.completing import Document, with_forms

__all__ = ["Mutant", "mutants_of"]

_MAX_PLACES = 200
_MAX_DEPTH = 4
_MAX_ITEMS = 20  # of a list; a longer one is changed as a whole
Steps = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One variant: what was done to the argument at a JSON Pointer, and the whole input."""

    at: str
    mutation: Kind
    document: Document


def mutants_of(case: Case) -> list[Mutant]:
    """Every variant of the call of *case*."""
    found: list[Mutant] = []
    for steps, value in _places(_args(case.document), ()):
        at = "".join("/" + escape(str(step)) for step in steps)
        right = case.tool.types_of(str(steps[0])) if case.tool and len(steps) == 1 else frozenset()
        right |= {"integer"} if "number" in right else frozenset()
        for mutation, changed in _changes(value):
            if mutation == "retyped" and _type_of(changed) in right:
                continue  # of a type that the tool takes: another call, not a hostile one
            document = copy.deepcopy(case.document)
            _put(_args(document), steps, changed, is_removal=mutation == "removed")
            if mutation == "removed":
                _drop_origin(document, at)
            found.append(Mutant(at, mutation, _with_forms(case, document, at)))
        found.extend(_of_unknown_origin(case, at))
    return found


def _args(document: Document) -> JSON:
    action = cast("Document", document["action"])
    return cast("Document", action["properties"])["args"]


def _places(value: JSON, steps: Steps) -> Iterator[tuple[Steps, JSON]]:
    """Each argument, then what is in it, as far as anybody would write a bound for."""
    left = [(steps, value)]
    count = 0
    while left and count < _MAX_PLACES:
        at, here = left.pop(0)
        if at:
            count += 1
            yield at, here
        if len(at) < _MAX_DEPTH:
            left.extend(((*at, step), item) for step, item in _inside(here))


def _inside(value: JSON) -> list[tuple[str | int, JSON]]:
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) and len(value) <= _MAX_ITEMS else []


def _changes(value: JSON) -> Iterator[tuple[Kind, JSON]]:
    yield "removed", None
    if value is not None:
        yield "nulled", None
    yield from (("retyped", other) for other in _other_types(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield "negated", -value if value > 0 else -1


def _other_types(value: JSON) -> list[JSON]:
    """Values of other JSON types, the most dangerous ones: the same thing as text, wrapped, empty."""
    match value:
        case bool():
            return [str(value).lower(), [value]]
        case int() | float():
            return [str(value), [value], True]
        case str():
            return [0, [value], {"value": value}]
        case list():
            return ["", {}]
        case dict():
            return ["", []]
        case _:
            return []  # null is hostile already: another value would be a better call


def _type_of(value: JSON) -> str:
    """The name of the value's type in a JSON Schema."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _put(args: JSON, steps: Steps, value: JSON, *, is_removal: bool) -> None:
    here = args
    for step in steps[:-1]:
        here = here[step]  # type: ignore[index]
    if is_removal:
        del here[steps[-1]]  # type: ignore[union-attr,arg-type]
    else:
        here[steps[-1]] = value  # type: ignore[index]


def _origins(document: Document) -> dict[str, JSON]:
    context = cast("Document", document["context"])
    provenance = cast("Document", context.get("provenance") or {})
    return cast("Document", provenance.get("args") or {})


def _drop_origin(document: Document, at: str) -> bool:
    origins = _origins(document)
    gone = [pointer for pointer in origins if pointer == at or pointer.startswith(f"{at}/")]
    for pointer in gone:
        del origins[pointer]
    return bool(gone)


def _of_unknown_origin(case: Case, at: str) -> Iterator[Mutant]:
    document = copy.deepcopy(case.document)
    if _drop_origin(document, at):
        yield Mutant(at, "untraced", document)


def _with_forms(case: Case, document: Document, at: str) -> Document:
    """The paths, URLs and commands of the new arguments, as the guard would work them out.

    Forms that were written by hand, or came with a recorded call, stay where nothing was changed.
    """
    context = cast("Document", document["context"])
    before = cast("Document", context.pop("normalised", {}))
    with_forms(document)
    if case.has_own_forms:
        context["normalised"] = _mixed(before, cast("Document", context["normalised"]), at)
    return document


def _mixed(before: Document, now: Document, at: str) -> Document:
    """What *now* says of the argument *at*, and *before* of every other. Pointers stand below other names."""
    mixed: Document = {}
    for name in sorted(before.keys() | now.keys()):
        if not name.startswith("/"):
            mixed[name] = _mixed(_object(before.get(name)), _object(now.get(name)), at)
        elif name in (chosen := now if _is_at(name, at) else before):
            mixed[name] = chosen[name]
    return mixed


def _object(value: JSON) -> Document:
    return value if isinstance(value, dict) else {}


def _is_at(pointer: str, at: str) -> bool:
    return pointer == at or pointer.startswith(f"{at}/") or at.startswith(f"{pointer}/")
