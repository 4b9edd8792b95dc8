"""Checks a value against the part of JSON Schema that parameters of policies are described with.

Known: type, enum, properties, required, additionalProperties, items, minItems, maxItems, uniqueItems,
minimum, maximum, exclusiveMinimum, minLength, maxLength, pattern (RE2). A word that is not known is an
error, never passed over. Source: JSON Schema 2020-12, validation.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import cast

import re2

from fumehood.canonical import JSON

__all__ = ["Complaint", "complaints"]

#: The keys and indices that lead to a value, and what is wrong with it.
Path = tuple[str | int, ...]
Complaint = tuple[Path, str]

_SAYS_NOTHING = frozenset({"$schema", "$id", "title", "description", "default", "examples"})
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "number": (int, float),
    "integer": (int,),
}
_NAMES = {
    "object": "an object",
    "array": "a list",
    "string": "a text",
    "boolean": "true or false",
    "integer": "a whole number",
}


def complaints(schema: Mapping[str, JSON], value: JSON, at: Path = ()) -> Iterator[Complaint]:
    """What is wrong with *value*.

    Raises:
        ValueError: the schema uses a word that is not known here.
    """
    wanted = schema.get("type")
    if isinstance(wanted, str) and not _is_of(value, wanted):
        yield at, f"expected {_NAMES.get(wanted, f'a {wanted}')}, found {_shown(value)}"
        return
    for word, rule in schema.items():
        if word in _CHECKS:
            yield from ((at, said) for said in _CHECKS[word](rule, value))
        elif word not in _SAYS_NOTHING and word not in _NESTED and word != "type":
            raise ValueError(f"a schema of parameters says {word!r}, which is not known here")
    if isinstance(value, dict):
        yield from _object(schema, value, at)
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from complaints(_schema(schema["items"]), item, (*at, index))


_NESTED = frozenset({"properties", "additionalProperties", "items"})


def _object(schema: Mapping[str, JSON], value: dict[str, JSON], at: Path) -> Iterator[Complaint]:
    known = _schema(schema.get("properties", {}))
    others = schema.get("additionalProperties", True)
    for name, item in value.items():
        if name in known:
            yield from complaints(_schema(known[name]), item, (*at, name))
        elif isinstance(others, dict):
            yield from complaints(others, item, (*at, name))
        elif others is False:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f'; did you mean "{close[0]}"?' if close else ""
            yield (*at, name), f"there is no such parameter{hint} (there are: {', '.join(sorted(known))})"


def _schema(value: JSON) -> dict[str, JSON]:
    return cast("dict[str, JSON]", value)


def _is_of(value: JSON, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[wanted])


def _shown(value: JSON) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _bound(word: str, rule: JSON, value: JSON) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    limit = cast("float", rule)
    is_wrong = {"minimum": value < limit, "maximum": value > limit, "exclusiveMinimum": value <= limit}[word]
    if is_wrong:
        words = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}
        yield f"expected {words[word]} {limit}, found {_shown(value)}"


def _size(word: str, rule: JSON, value: JSON) -> Iterator[str]:
    kind: type = str if word.endswith("Length") else list
    if not isinstance(value, kind):
        return
    size, limit = len(value), cast("int", rule)  # type: ignore[arg-type]
    if size < limit if word.startswith("min") else size > limit:
        noun = "characters" if kind is str else "items"
        yield f"expected at {'least' if word.startswith('min') else 'most'} {limit} {noun}, found {size}"


def _enum(rule: JSON, value: JSON) -> Iterator[str]:
    allowed = cast("list[JSON]", rule)
    if value not in allowed or (isinstance(value, bool) and not any(value is each for each in allowed)):
        yield f"expected one of {', '.join(map(_shown, allowed))}, found {_shown(value)}"


def _pattern(rule: JSON, value: JSON) -> Iterator[str]:
    if isinstance(value, str) and re2.search(cast("str", rule), value) is None:
        yield f"expected a text of the form {rule}, found {_shown(value)}"


def _required(rule: JSON, value: JSON) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"{name} is missing" for name in cast("list[str]", rule) if name not in value)


def _unique(rule: JSON, value: JSON) -> Iterator[str]:
    if rule and isinstance(value, list) and any(item in value[:index] for index, item in enumerate(value)):
        yield "an item stands in it twice"


_CHECKS: Mapping[str, Callable[[JSON, JSON], Iterator[str]]] = {
    "enum": _enum,
    "pattern": _pattern,
    "required": _required,
    "uniqueItems": _unique,
    **{word: partial(_bound, word) for word in ("minimum", "maximum", "exclusiveMinimum")},
    **{word: partial(_size, word) for word in ("minItems", "maxItems", "minLength", "maxLength")},
}
