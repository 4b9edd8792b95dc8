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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from fumehood.canonical import JSON, MAX_DOCUMENT_BYTES, escape, leaves
from fumehood.errors import PdpError
from fumehood.model import Annotations, Origin
from fumehood.wanted import (
    ANY_MONEY,
    CURRENCIES,
    ID_WORDS,
    MEASURES,
    Role,
    Wanted,
    decimal_of,
    name_at,
    plain_number,
    wanted_at,
)
from fumehood.words import CLOSING, OPENING, Work, Writing, tokens_of

__all__ = ["Found", "Role", "Source", "Sources", "read_json", "read_text"]

MAX_SOURCES = 256
MAX_SOURCE_CHARS = 200_000
K = TypeVar("K")
V = TypeVar("V")
_Number = tuple[Decimal, str]  # with its role
_ENTRY_BYTES = 40  # at least, of one source of one value: {"origin":"user","source":"","match":"value"}

_DIGITS = re.compile(r"[0-9]{1,3}\Z")  # "1 250": a number written in two words
_SCALES = frozenset("hundred thousand million billion k m bn mio mrd grand dozen lakh crore".split())  # noqa: SIM905
_DOLLARS = frozenset("canadian australian singapore kong zealand cad aud sgd hkd nzd".split())  # noqa: SIM905
_TWO_WAYS = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}[.,]?\Z")
_ENGLISH = frozenset(("usd", "gbp", "cad", "aud", "inr", "jpy", "cny"))
_SIGNED = re.compile(r"(?P<before>us\$|[$€£¥₹#]?)(?P<digits>[0-9][0-9,.]*)(?P<after>[%$€£¥₹]|[a-z]{0,6})\Z")


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
    writing: Writing = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "writing", Writing(self.text, self.folded))

    @property
    def is_trusted(self) -> bool:
        return self.origin in (Origin.USER, Origin.SYSTEM)

    def units(self) -> dict[_Number, set[str]]:
        """Each number with its role, and the units that it has."""
        found: dict[_Number, set[str]] = {}
        for number in self.numbers:
            found.setdefault((number.value, number.role), set()).add(number.unit)
        return found


@dataclass(slots=True)
class Sources:
    """All sources of one session, in the order in which they were met. The oldest results are forgotten
    first, the user's words never; a forgotten source can only make a value `unknown`."""

    known: list[Source] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    _by_token: dict[str, dict[Source, None]] = field(default_factory=dict)
    _by_number: dict[_Number, dict[Source, set[str]]] = field(default_factory=dict)

    def add(self, source: Source) -> None:
        self.known.append(source)
        for key in _keys(source):
            self._by_token.setdefault(key, {})[source] = None
        for number, units in source.units().items():
            self._by_number.setdefault(number, {})[source] = units
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

        Raises:
            PdpError: `pdp_input_too_large`: it takes too much room, or too long to be found out.
        """
        search = _Search(self._by_token, self._by_number, {*notes.target, *notes.object})
        known = {f"/{escape(name)}" for name in defaults}
        keys = free or {}
        found: dict[str, JSON] = {}
        for pointer, value in leaves(args):
            if known and pointer and pointer[: (pointer + "/").index("/", 1)] in known:
                found[pointer] = [{"origin": Origin.SYSTEM.value, "source": "default", "match": "default"}]
            else:
                found[pointer] = search.of(pointer, value, keys.get(pointer, ()))
        labels: list[JSON] = [*sorted(self.labels)]
        return {"args": found, "session_labels": labels}

    def _forget(self, source: Source) -> None:
        self.known.remove(source)
        for key in _keys(source):
            _drop(self._by_token, key, source)
        for number in source.units():
            _drop(self._by_number, number, source)


class _Search:
    """The search for the arguments of one call; equal ones are looked for once."""

    def __init__(
        self,
        by_token: Mapping[str, Mapping[Source, None]],
        by_number: Mapping[_Number, Mapping[Source, set[str]]],
        marked: set[str],
    ) -> None:
        self._by_token, self._by_number, self._marked = by_token, by_number, marked
        self._work = Work()
        self._room = MAX_DOCUMENT_BYTES
        self._done: dict[tuple[Wanted, tuple[str, ...]], tuple[list[JSON], int]] = {}

    def of(self, pointer: str, value: JSON, keys: tuple[str, ...]) -> JSON:
        """Where *value* was found."""
        wanted = wanted_at(pointer, value, self._marked)
        if not self._candidates(wanted):
            return []
        done = self._done.get((wanted, keys))
        if done is None:
            done = self._done[wanted, keys] = self._looked_for(wanted, keys)
        found, size = done
        self._room -= size
        if self._room < 0:
            text = f"where the arguments come from takes over {MAX_DOCUMENT_BYTES} bytes to say"
            raise PdpError(text, code="pdp_input_too_large")
        return found

    def _looked_for(self, wanted: Wanted, keys: tuple[str, ...]) -> tuple[list[JSON], int]:
        """The sources that hold what is wanted, and how many bytes it takes at least to say so."""
        found: list[JSON] = []
        size = 0
        for source in self._candidates(wanted):
            match = self._match(source, wanted)
            if match and all(source.writing.says(key, self._work) for key in keys):
                found.append({"origin": source.origin.value, "source": source.name, "match": match})
                size += _ENTRY_BYTES + len(source.name)
        return found, size

    def _candidates(self, wanted: Wanted) -> Iterable[Source]:
        if wanted.number is not None:
            return self._by_number.get((wanted.number, wanted.role), ())
        if not wanted.first:
            return ()
        exact = self._by_token.get(wanted.first, _NONE)
        folded = self._by_token.get(wanted.first.casefold(), _NONE)
        return {**exact, **folded} if exact and folded else exact or folded

    def _match(self, source: Source, wanted: Wanted) -> str:
        """How *source* holds what is wanted: "value", "folded" (case apart, suspicion only), or ""."""
        if wanted.number is not None:
            units = self._by_number[wanted.number, wanted.role][source]
            return "value" if any(_fits(unit, wanted.unit) for unit in units) else ""
        if source.writing.says(wanted.text, self._work):
            return "value"
        if not source.folded:  # trust is exact
            return ""
        folded = tuple(t.casefold() for t in tokens_of(wanted.text)[0])
        return "folded" if source.writing.holds(folded, self._work) else ""


_NONE: Mapping[Source, None] = {}


def _drop(index: dict[K, dict[Source, V]], key: K, source: Source) -> None:
    here = index[key]
    del here[source]
    if not here:
        del index[key]


def _keys(source: Source) -> set[str]:
    return {*source.tokens, *source.folded}


def read_text(origin: Origin, name: str, text: str) -> Source:
    """A source made of text."""
    tokens, raw = tokens_of(text[:MAX_SOURCE_CHARS])
    return _source(origin, name, tokens, frozenset(_numbers(raw)), " ".join(raw))


def read_json(origin: Origin, name: str, value: JSON) -> Source:
    """A source made of a result; a number's role is told by its key (`amount_usd`, `order_id`)."""
    tokens: list[str] = []
    texts: list[str] = []
    numbers: set[Found] = set()
    room = MAX_SOURCE_CHARS
    for pointer, leaf in leaves(value):
        number = decimal_of(leaf)
        if isinstance(leaf, str):
            some, raw = tokens_of(leaf[: max(room, 0)])
            room -= len(leaf)
            tokens.extend((*some, "\n"))  # no text reaches across two leaves
            texts.append(" ".join(raw))
            numbers.update(_numbers(raw))
        if number is not None and (keyed := _keyed(pointer, number)):
            numbers.add(keyed)
    return _source(origin, name, tuple(tokens), frozenset(numbers), "\n".join(texts))


def _source(
    origin: Origin, name: str, tokens: tuple[str, ...], numbers: frozenset[Found], text: str
) -> Source:
    is_trusted = origin in (Origin.USER, Origin.SYSTEM)
    folded = () if is_trusted else tuple(t.casefold() for t in tokens)
    return Source(origin, name, tokens, numbers, folded, text)


def _fits(unit: str, wanted: str) -> bool:
    """True if an amount in *unit* may be one in *wanted*; `ANY_MONEY` is any currency."""
    return unit in ("", *CURRENCIES.values()) if wanted == ANY_MONEY else wanted in ("", unit)


def _numbers(raw: tuple[str, ...]) -> list[Found]:
    words = [w.lstrip(OPENING).casefold() for w in raw]
    found = (_number(words, index) for index in range(len(words)))
    return [f for f in found if f is not None]


def _number(words: list[str], index: int) -> Found | None:
    """The number at *index* with its role, told by what stands on it or beside it."""
    word = words[index].rstrip(CLOSING)
    has_ended = words[index] != word  # "order 7, 3 days": the comma ends what stood before
    shape = _SIGNED.match(word)
    value = plain_number(shape["digits"]) if shape else None
    if shape is None or value is None:
        return None
    before = words[index - 1].rstrip(":") if index else ""
    after = words[index + 1].rstrip(CLOSING) if index + 1 < len(words) and not has_ended else ""
    if shape["after"] and shape["after"] not in MEASURES:
        return None
    is_id = shape["before"] == "#" or before in ("#", "no.", "nr.") or before in ID_WORDS
    glyphs = {MEASURES.get(shape["before"]), MEASURES.get(shape["after"])}
    units = (glyphs | {CURRENCIES.get(before), MEASURES.get(after)}) - {None}
    is_taken = before in CURRENCIES and index > 1 and any(map(str.isdigit, words[index - 2]))
    if is_id:
        return None if units else Found(value, Role.ID)  # "order 500 units": which of the two?
    if after in _SCALES or before in _DOLLARS or is_taken or _DIGITS.match(after) or _DIGITS.match(before):
        return None  # two readers would understand two different amounts
    currencies = units & set(CURRENCIES.values())
    unit = next(iter(currencies or units), "") if len(currencies or units) == 1 else ""
    is_odd = shape["after"] == "m" and currencies  # $2m is no amount in metres
    if _TWO_WAYS.match(shape["digits"]) and not ("," in shape["digits"] and unit in _ENGLISH):
        return None  # 1.250 € is a thousand to some and little more than one to others
    return Found(value, Role.AMOUNT, unit) if unit and not is_odd else None


def _keyed(pointer: str, value: Decimal) -> Found | None:
    name = name_at(pointer)
    if name.role(pointer, frozenset()) == Role.ID:
        return Found(value, Role.ID)
    unit = "" if name.unit == ANY_MONEY else name.unit
    return Found(value, Role.AMOUNT, unit) if name.is_amount else None
