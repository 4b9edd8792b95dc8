"""One argument, read: what to look for in the sources of a session, and as what.

Whether a number is an amount or an id is told by the name that it has (`amount_usd`, `order_id`), or by the
tool's annotations.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from fumehood.canonical import JSON
from fumehood.words import CLOSING, OPENING

__all__ = [
    "ANY_MONEY",
    "CURRENCIES",
    "ID_WORDS",
    "MEASURES",
    "Name",
    "Role",
    "Wanted",
    "decimal_of",
    "name_at",
    "plain_number",
    "wanted_at",
]

CURRENCIES = {
    "usd": "usd", "$": "usd", "us$": "usd", "dollar": "usd", "dollars": "usd", "bucks": "usd",
    "eur": "eur", "€": "eur", "euro": "eur", "euros": "eur",
    "gbp": "gbp", "£": "gbp", "pound": "gbp", "pounds": "gbp",
    "jpy": "jpy", "¥": "jpy", "yen": "jpy", "chf": "chf", "franc": "chf", "francs": "chf",
    "cad": "cad", "aud": "aud", "inr": "inr", "₹": "inr", "cny": "cny", "yuan": "cny",
}  # fmt: skip
_UNITS = {
    "%": "percent", "percent": "percent", "pct": "percent",
    "s": "s", "sec": "s", "second": "s", "seconds": "s", "min": "min", "minute": "min", "minutes": "min",
    "h": "h", "hour": "h", "hours": "h", "day": "day", "days": "day", "week": "week", "weeks": "week",
    "month": "month", "months": "month", "year": "year", "years": "year",
    "kb": "kb", "mb": "mb", "gb": "gb", "tb": "tb", "byte": "byte", "bytes": "byte",
    "g": "g", "kg": "kg", "km": "km", "m": "m", "cm": "cm",
    "cent": "cent", "cents": "cent", "mm": "mm", "mile": "mile", "miles": "mile",
    "piece": "piece", "pieces": "piece", "pcs": "piece", "item": "item", "items": "item",
    "unit": "unit", "units": "unit", "people": "person", "person": "person", "persons": "person",
    "times": "times", "rows": "row", "row": "row",
}  # fmt: skip
MEASURES = {**_UNITS, **CURRENCIES}
ID_WORDS = frozenset(
    "ticket order case invoice account id no number num nr issue pr customer ref reference booking "  # noqa: SIM905
    "transaction request claim user".split()
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")  # orderId, amountUsd
_NUMBERLIKE = frozenset("+-.,_eE \u2212#" + OPENING + CLOSING)
ANY_MONEY = "money"
_MONEY = frozenset("amount price total cost fee sum payment refund budget".split())  # noqa: SIM905
_NUMBER = re.compile(r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]*|0)(?:\.[0-9]+)?\Z")
_SIMPLE = re.compile(r"[a-z0-9]+\Z")  # one word
_ID_ENDINGS = frozenset(("id", "ids", "ref", "reference"))
_KEPT_CHARS = 64  # of a name that is remembered: whoever makes a call may choose it


class Role:
    """What a number is in its source."""

    AMOUNT = "amount"
    ID = "id"


@dataclass(frozen=True, slots=True)
class Name:
    """What the last name of a pointer says of a number below it; indices of lists are passed over."""

    is_id: bool = False  # whatever else is said of it
    is_amount: bool = False
    may_be_id: bool = False  # "order", "ticket"
    unit: str = ""  # or currency; ANY_MONEY where it is an amount of some currency

    def role(self, pointer: str, marked: Set[str]) -> str:
        """AMOUNT or ID, where the arguments (or pointers) in *marked* are targets and objects of the tool."""
        if self.is_id:
            return Role.ID
        if self.is_amount:  # even below a target or per order
            return Role.AMOUNT
        is_id = self.may_be_id or (bool(marked) and (pointer in marked or _top(pointer) in marked))
        return Role.ID if is_id else Role.AMOUNT


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for: a number, or a text whose first token is `first`, or (if neither) nothing."""

    number: Decimal | None = None
    role: str = ""
    unit: str = ""
    first: str = ""
    text: str = ""


NOTHING = Wanted()


def wanted_at(pointer: str, value: JSON, marked: Set[str]) -> Wanted:
    """What to look for in order to find the *value* of the argument at *pointer*."""
    number = decimal_of(value)
    if number is not None:
        name = name_at(pointer)
        role = name.role(pointer, marked)
        return Wanted(number, role, "" if role == Role.ID else name.unit)
    if not isinstance(value, str):
        return NOTHING
    if _looks_numeric(value) and name_at(pointer).role(pointer, marked) != Role.ID:
        return NOTHING
    return Wanted(first=_first_token(value), text=value)


def name_at(pointer: str) -> Name:
    """The name that the value at *pointer* has."""
    rest, _, last = pointer.rpartition("/")
    while rest and (not last or last.isdecimal()):
        rest, _, last = rest.rpartition("/")
    if not last or last.isdecimal():
        return _NAMELESS
    return _known_name(last) if len(last) <= _KEPT_CHARS else _name(last)


def _name(text: str) -> Name:
    words = _words(text)
    last = words[-1]
    unit = next((u for w in reversed(words) if (u := MEASURES.get(w)) and len(w) > 1), "")
    is_money = not _MONEY.isdisjoint(words)
    return Name(
        is_id=len(words) > 0 and last in _ID_ENDINGS,
        is_amount=bool(unit) or is_money,
        may_be_id=last in ID_WORDS,
        unit=unit or (ANY_MONEY if is_money else ""),
    )


_known_name = lru_cache(maxsize=4096)(_name)
_NAMELESS = Name()


def _words(name: str) -> list[str]:
    if _SIMPLE.match(name):
        return [name]
    return re.split(r"[_\-.\s]+", _HUMP.sub("_", name).casefold())


def _top(pointer: str) -> str:
    return pointer.split("/", 2)[1].replace("~1", "/").replace("~0", "~") if pointer else ""


def _first_token(text: str) -> str:
    """The first token of *text* without the punctuation around it, "" if there is none."""
    start = text.split(maxsplit=1)
    bare = start[0].lstrip(OPENING).rstrip(CLOSING) if start else ""
    if bare or len(start) < 2:
        return bare
    return next((b for word in text.split() if (b := word.lstrip(OPENING).rstrip(CLOSING))), "")


def decimal_of(value: JSON) -> Decimal | None:
    """The number that *value* is, or says in plain digits."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float):
        return Decimal(str(value))
    return plain_number(value.strip()) if isinstance(value, str) else None


def _looks_numeric(text: str) -> bool:
    """A number in an odd form (`0881`, `+5`, `1e3`, other digits): it speaks for no amount."""
    bare = text.strip()
    return all(c.isnumeric() or c in _NUMBERLIKE for c in bare) and any(c.isnumeric() for c in bare)


def plain_number(digits: str) -> Decimal | None:
    """The number that *digits* are, commas between thousands allowed."""
    if not digits[:1].isdecimal():
        return None
    text = digits.rstrip(".,")
    if len(text) > 40 or not _NUMBER.match(text):
        return None
    try:
        return Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None
