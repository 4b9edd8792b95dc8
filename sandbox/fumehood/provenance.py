"""Where did a value come from? Whole tokens, typed, positive: what is not found is `unknown`.

A taint blacklist is no boundary (an attacker encodes the value), so nothing here says "clean".
It says where a value *was found*: in the user's words, in the operator's defaults, in an earlier
tool's result. Policy decides what that means.

- Text matches by whole tokens: `A-1` is not in `A-12`, `example.com` is not in `evil.example.com`.
- A number is an *amount* only beside a currency or unit in its source (`$40`, `40 EUR`, `3 days`),
  in the currency that the argument's name asks for (`amount_usd`).
- A number after "ticket", "order", "#" … is an *id* and speaks only for id arguments.
- A number with neither is nothing: `unknown`.

Sources: CaMeL (arXiv 2503.18813) for positive flow; the 881 case for the typing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from fumehood.canonical import JSON, leaves
from fumehood.model import Annotations, Origin

__all__ = ["Found", "Role", "Source", "Sources", "read_json", "read_text"]

MAX_SOURCES = 256
MAX_SOURCE_CHARS = 200_000
_MAX_PLACES = 1000  # a text made to be slow is trusted for nothing

_CURRENCIES = {
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
_MEASURES = {**_UNITS, **_CURRENCIES}
_ID_WORDS = frozenset(
    "ticket order case invoice account id no number num nr issue pr customer ref reference booking "  # noqa: SIM905
    "transaction request claim user".split()
)
_OPENING = "\"'`“”‘’«»([{<"
_CLOSING = "\"'`“”‘’«»)]}>,;:!?."
_DIGITS = re.compile(r"[0-9]{1,3}\Z")  # "1 250": a number written in two words
_SCALES = frozenset("hundred thousand million billion k m bn mio mrd grand dozen lakh crore".split())  # noqa: SIM905
_DOLLARS = frozenset("canadian australian singapore kong zealand cad aud sgd hkd nzd".split())  # noqa: SIM905
_TWO_WAYS = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}[.,]?\Z")
_ENGLISH = frozenset(("usd", "gbp", "cad", "aud", "inr", "jpy", "cny"))
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")  # orderId, amountUsd
_NUMBERLIKE = frozenset("+-.,_eE \u2212#" + _OPENING + _CLOSING)
_BREAK = re.compile("[ \n]")
_ANY_MONEY = "money"
_MONEY = frozenset("amount price total cost fee sum payment refund budget".split())  # noqa: SIM905
_NUMBER = re.compile(r"(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[1-9][0-9]*|0)(?:\.[0-9]+)?\Z")
_SIGNED = re.compile(r"(?P<before>us\$|[$€£¥₹#]?)(?P<digits>[0-9][0-9,.]*)(?P<after>[%$€£¥₹]|[a-z]{0,6})\Z")


class Role:
    """What a number is in its source."""

    AMOUNT = "amount"
    ID = "id"


@dataclass(frozen=True, slots=True)
class Found:
    """One number in a source: its value, role, and unit or currency."""

    value: Decimal
    role: str
    unit: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A text or result that values may come from, read once. `name` is "user" or "read_ticket#1".

    `folded` are its tokens without case; only suspicion looks at them.
    """

    origin: Origin
    name: str
    tokens: tuple[str, ...]
    numbers: frozenset[Found]
    folded: tuple[str, ...] = ()
    text: str = ""  # its words as they stand, one space between them

    @property
    def is_trusted(self) -> bool:
        return self.origin in (Origin.USER, Origin.SYSTEM)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One argument, read once: what to look for."""

    tokens: tuple[str, ...] = ()
    number: Decimal | None = None
    role: str = ""
    unit: str = ""
    text: str = ""


@dataclass(slots=True)
class Sources:
    """All sources of one session, in the order in which they were met. The oldest results are forgotten
    first, the user's words never; a forgotten source can only make a value `unknown`."""

    known: list[Source] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    _by_token: dict[str, list[Source]] = field(default_factory=dict)
    _by_number: dict[tuple[Decimal, str], list[Source]] = field(default_factory=dict)

    def add(self, source: Source) -> None:
        self.known.append(source)
        for key in _keys(source):
            self._by_token.setdefault(key, []).append(source)
        for number in {(n.value, n.role) for n in source.numbers}:
            self._by_number.setdefault(number, []).append(source)
        if len(self.known) > MAX_SOURCES:
            oldest = next((s for s in self.known if s.origin is not Origin.USER), None)
            if oldest is not None:
                self._forget(oldest)

    def of(
        self,
        args: JSON,
        notes: Annotations,
        defaults: tuple[str, ...] = (),
        free: Mapping[str, tuple[str, ...]] | None = None,
    ) -> dict[str, JSON]:
        """`{"args": {pointer: [{"origin", "source", "match"}]}, "session_labels": […]}`.

        *free* names, for each pointer below them, the keys that the caller chose (`free_keys`): a
        source speaks for such a value only if it holds those keys too.
        """
        found: dict[str, JSON] = {
            p: self._of_leaf(p, v, notes, defaults, (free or {}).get(p, ())) for p, v in leaves(args)
        }
        labels: list[JSON] = [*sorted(self.labels)]
        return {"args": found, "session_labels": labels}

    def _of_leaf(
        self, pointer: str, value: JSON, notes: Annotations, defaults: tuple[str, ...], keys: tuple[str, ...]
    ) -> JSON:
        top = pointer.split("/")[1] if pointer else ""
        if top.replace("~1", "/").replace("~0", "~") in defaults:
            return [{"origin": Origin.SYSTEM.value, "source": "default", "match": "default"}]
        wanted = _wanted(pointer, value, notes)
        return [
            {"origin": source.origin.value, "source": source.name, "match": match}
            for source in self._candidates(wanted)
            if (match := _match(source, wanted)) and all(_says(source.text, key) for key in keys)
        ]

    def _candidates(self, wanted: _Wanted) -> list[Source]:
        if wanted.number is not None:
            return self._by_number.get((wanted.number, wanted.role), [])
        if not wanted.tokens:
            return []
        exact = self._by_token.get(wanted.tokens[0], [])
        folded = self._by_token.get(wanted.tokens[0].casefold(), [])
        return list(dict.fromkeys([*exact, *folded]))

    def _forget(self, source: Source) -> None:
        self.known.remove(source)
        for key in _keys(source):
            self._by_token[key].remove(source)
        for number in {(n.value, n.role) for n in source.numbers}:
            self._by_number[number].remove(source)


def _keys(source: Source) -> set[str]:
    return {*source.tokens, *source.folded}


def read_text(origin: Origin, name: str, text: str) -> Source:
    """A source made of text."""
    tokens, raw = _tokens(text[:MAX_SOURCE_CHARS])
    return _source(origin, name, tokens, frozenset(_numbers(raw)), " ".join(raw))


def read_json(origin: Origin, name: str, value: JSON) -> Source:
    """A source made of a result; a number's role is told by its key (`amount_usd`, `order_id`)."""
    tokens: list[str] = []
    texts: list[str] = []
    numbers: set[Found] = set()
    room = MAX_SOURCE_CHARS
    for pointer, leaf in leaves(value):
        if isinstance(leaf, str):
            some, raw = _tokens(leaf[: max(room, 0)])
            room -= len(leaf)
            tokens.extend((*some, "\n"))  # no text reaches across two leaves
            texts.append(" ".join(raw))
            numbers.update(_numbers(raw))
            number = _decimal(leaf)
        else:
            number = _decimal(leaf)
        if number is not None and (keyed := _keyed(pointer, number)):
            numbers.add(keyed)
    return _source(origin, name, tuple(tokens), frozenset(numbers), "\n".join(texts))


def _source(
    origin: Origin, name: str, tokens: tuple[str, ...], numbers: frozenset[Found], text: str
) -> Source:
    is_trusted = origin in (Origin.USER, Origin.SYSTEM)
    folded = () if is_trusted else tuple(t.casefold() for t in tokens)
    return Source(origin, name, tokens, numbers, folded, text)


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
    return unit in ("", *_CURRENCIES.values()) if wanted == _ANY_MONEY else wanted in ("", unit)


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
        if not before.strip(_OPENING) and not after.strip(_CLOSING):
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
    stripped = tuple(t.lstrip(_OPENING).rstrip(_CLOSING) for t in raw)
    return tuple(t for t in stripped if t), raw


def _numbers(raw: tuple[str, ...]) -> list[Found]:
    words = [w.lstrip(_OPENING).casefold() for w in raw]
    found = (_number(words, index) for index in range(len(words)))
    return [f for f in found if f is not None]


def _number(words: list[str], index: int) -> Found | None:
    """The number at *index* with its role, told by what stands on it or beside it."""
    word = words[index].rstrip(_CLOSING)
    has_ended = words[index] != word  # "order 7, 3 days": the comma ends what stood before
    shape = _SIGNED.match(word)
    value = _plain(shape["digits"]) if shape else None
    if shape is None or value is None:
        return None
    before = words[index - 1].rstrip(":") if index else ""
    after = words[index + 1].rstrip(_CLOSING) if index + 1 < len(words) and not has_ended else ""
    if shape["after"] and shape["after"] not in _MEASURES:
        return None
    is_id = shape["before"] == "#" or before in ("#", "no.", "nr.") or before in _ID_WORDS
    glyphs = {_MEASURES.get(shape["before"]), _MEASURES.get(shape["after"])}
    units = (glyphs | {_CURRENCIES.get(before), _MEASURES.get(after)}) - {None}
    is_taken = before in _CURRENCIES and index > 1 and any(map(str.isdigit, words[index - 2]))
    if is_id:
        return None if units else Found(value, Role.ID)  # "order 500 units": which of the two?
    if after in _SCALES or before in _DOLLARS or is_taken or _DIGITS.match(after) or _DIGITS.match(before):
        return None  # two readers would understand two different amounts
    currencies = units & set(_CURRENCIES.values())
    unit = next(iter(currencies or units), "") if len(currencies or units) == 1 else ""
    is_odd = shape["after"] == "m" and currencies  # $2m is no amount in metres
    if _TWO_WAYS.match(shape["digits"]) and not ("," in shape["digits"] and unit in _ENGLISH):
        return None  # 1.250 € is a thousand to some and little more than one to others
    return Found(value, Role.AMOUNT, unit) if unit and not is_odd else None


def _keyed(pointer: str, value: Decimal) -> Found | None:
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
    return bool({top, pointer} & {*notes.target, *notes.object} or set(words[-1:]) & _ID_WORDS)


def _unit_wanted(pointer: str) -> str:
    unit = _unit_of(pointer)
    return unit or (_ANY_MONEY if set(_words(pointer)) & _MONEY else "")


def _unit_of(pointer: str) -> str:
    return next((u for w in reversed(_words(pointer)) if (u := _MEASURES.get(w)) and len(w) > 1), "")


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
