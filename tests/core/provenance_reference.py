"""How provenance was told first: each argument is looked for in each source. Slow, and plainly right.

The one in `fumehood.provenance` must give the same answers (`test_provenance_at_scale.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from fumehood.canonical import JSON, leaves
from fumehood.model import Annotations, Origin
from fumehood.provenance import Found, Source
from fumehood.wanted import CURRENCIES, ID_WORDS, MEASURES, Role
from fumehood.words import CLOSING, OPENING

_MAX_PLACES = 1000
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")  # orderId, amountUsd
_NUMBERLIKE = frozenset("+-.,_eE \u2212#" + OPENING + CLOSING)
_BREAK = re.compile("[ \n]")
_ANY_MONEY = "money"
_MONEY = frozenset("amount price total cost fee sum payment refund budget".split())
_NUMBER = re.compile(r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]*|0)(?:\.[0-9]+)?\Z")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One argument, read once: what to look for."""

    tokens: tuple[str, ...] = ()
    number: Decimal | None = None
    role: str = ""
    unit: str = ""
    text: str = ""


def provenance_of(
    known: Sequence[Source],
    args: JSON,
    notes: Annotations,
    defaults: tuple[str, ...] = (),
    free: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, JSON]:
    """Each pointer with what was found."""
    return {p: _of_leaf(known, p, v, notes, defaults, (free or {}).get(p, ())) for p, v in leaves(args)}


def _of_leaf(
    known: Sequence[Source],
    pointer: str,
    value: JSON,
    notes: Annotations,
    defaults: tuple[str, ...],
    keys: tuple[str, ...],
) -> JSON:
    top = pointer.split("/")[1] if pointer else ""
    if top.replace("~1", "/").replace("~0", "~") in defaults:
        return [{"origin": Origin.SYSTEM.value, "source": "default", "match": "default"}]
    wanted = _wanted(pointer, value, notes)
    return [
        {"origin": source.origin.value, "source": source.name, "match": match}
        for source in _candidates(known, wanted)
        if (match := _match(source, wanted)) and all(_says(source.text, key) for key in keys)
    ]


def _candidates(known: Sequence[Source], wanted: _Wanted) -> list[Source]:
    if wanted.number is not None:
        sought = (wanted.number, wanted.role)
        return [s for s in known if any((n.value, n.role) == sought for n in s.numbers)]
    if not wanted.tokens:
        return []
    exact = [s for s in known if wanted.tokens[0] in {*s.tokens, *s.folded}]
    folded = [s for s in known if wanted.tokens[0].casefold() in {*s.tokens, *s.folded}]
    return list(dict.fromkeys([*exact, *folded]))


def _wanted(pointer: str, value: JSON, notes: Annotations) -> _Wanted:
    number = _decimal(value)
    if number is not None:
        role = Role.ID if _is_id(pointer, notes) else Role.AMOUNT
        return _Wanted(number=number, role=role, unit="" if role == Role.ID else _unit_wanted(pointer))
    if not isinstance(value, str) or (_looks_numeric(value) and not _is_id(pointer, notes)):
        return _Wanted()
    return _Wanted(tokens=_tokens(value)[0], text=value)


def _match(source: Source, wanted: _Wanted) -> str:
    """How *source* holds what is wanted: "value", "folded" (case apart, suspicion only), or ""."""
    if wanted.number is not None:
        is_there = any(
            n.value == wanted.number and n.role == wanted.role and _fits(n.unit, wanted.unit)
            for n in source.numbers
        )
        return "value" if is_there else ""
    if _says(source.text, wanted.text):
        return "value"
    folded = tuple(t.casefold() for t in wanted.tokens)
    return "folded" if source.folded and _holds(source.folded, folded) else ""  # trust is exact


def _fits(unit: str, wanted: str) -> bool:
    """True if an amount in *unit* may be one in *wanted*; `_ANY_MONEY` is any currency."""
    return unit in ("", *CURRENCIES.values()) if wanted == _ANY_MONEY else wanted in ("", unit)


def _says(text: str, value: str) -> bool:
    """True if *value* stands in *text* as it is: only punctuation between it and whole words' ends."""
    if "\n" in value or value != value.strip():
        return False
    found = text.find(value)
    for _ in range(_MAX_PLACES):
        if found < 0:
            return False
        end = found + len(value)
        before = _BREAK.split(text[max(0, found - 64) : found])[-1]
        after = _BREAK.split(text[end : end + 64], maxsplit=1)[0]
        if not before.strip(OPENING) and not after.strip(CLOSING):
            return True
        found = text.find(value, found + 1)
    return False


def _holds(tokens: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    """True if *wanted* stands in *tokens*, one after the other."""
    size, first = len(wanted), wanted[0]
    if size == 1:
        return first in tokens
    starts = (i for i, token in enumerate(tokens) if token == first)
    return any(tokens[i : i + size] == wanted for i in starts)


def _tokens(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Whole tokens without the punctuation around them, and the same tokens with it."""
    raw = tuple(text.split())
    stripped = tuple(t.lstrip(OPENING).rstrip(CLOSING) for t in raw)
    return tuple(t for t in stripped if t), raw


def keyed(pointer: str, value: Decimal) -> Found | None:
    if _is_id(pointer, Annotations()):
        return Found(value, Role.ID)
    unit = _unit_of(pointer)
    is_amount = unit or set(_words(pointer)) & _MONEY
    return Found(value, Role.AMOUNT, unit) if is_amount else None


def _is_id(pointer: str, notes: Annotations) -> bool:
    words = _words(pointer)
    if words[-1:] in (["id"], ["ids"], ["ref"], ["reference"]):
        return True
    if _unit_of(pointer) or set(words) & _MONEY:  # an amount, even below a target or per order
        return False
    top = pointer.split("/")[1].replace("~1", "/").replace("~0", "~") if pointer else ""
    return bool({top, pointer} & {*notes.target, *notes.object} or set(words[-1:]) & ID_WORDS)


def _unit_wanted(pointer: str) -> str:
    unit = _unit_of(pointer)
    return unit or (_ANY_MONEY if set(_words(pointer)) & _MONEY else "")


def _unit_of(pointer: str) -> str:
    return next((u for w in reversed(_words(pointer)) if (u := MEASURES.get(w)) and len(w) > 1), "")


def _words(pointer: str) -> list[str]:
    """The words of the last name in *pointer*; list indices are passed over."""
    names = [n for n in pointer.split("/") if n and not n.isdecimal()]
    parted = _HUMP.sub("_", names[-1]) if names else ""
    return re.split(r"[_\-.\s]+", parted.casefold()) if parted else []


def _decimal(value: JSON) -> Decimal | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return Decimal(str(value))
    return _plain(value.strip()) if isinstance(value, str) else None


def _looks_numeric(text: str) -> bool:
    """A number in an odd form (`0881`, `+5`, `1e3`, other digits): it speaks for no amount."""
    bare = text.strip()
    return any(c.isnumeric() for c in bare) and all(c.isnumeric() or c in _NUMBERLIKE for c in bare)


def _plain(digits: str) -> Decimal | None:
    text = digits.rstrip(".,")
    if len(text) > 40 or not _NUMBER.match(text):
        return None
    try:
        return Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None
