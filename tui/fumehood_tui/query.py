"""The filter's little language: `risk>=med tool:x agent:y text`. All terms must hold; case does not matter.

Pure: parsed once into terms, asked of view values. A term that only fits requests (`risk`) lets every
trace line pass, and the other way round (`effect`).
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import eq, ge, gt, le, lt

from fumehood.model import Risk
from fumehood_tui.view import Request, Row

__all__ = ["EVERYTHING", "FilterError", "Query", "parse"]

_RISKS = {"low": Risk.LOW, "med": Risk.MEDIUM, "medium": Risk.MEDIUM, "high": Risk.HIGH}
_OPERATORS = (">=", "<=", "=", ":", ">", "<")
_FIELDS = ("agent", "effect", "id", "rule", "session", "tool", "user")


class FilterError(ValueError):
    """The filter cannot be read; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Term:
    """`field` is empty for plain text. For `risk`, `ranks` are those that pass."""

    field: str
    value: str
    ranks: frozenset[int] = frozenset()

    def accepts_request(self, request: Request) -> bool:
        if self.field == "risk":
            return request.risk.rank in self.ranks
        return self.field == "effect" or self.value in request.haystack(self.field)

    def accepts_row(self, row: Row) -> bool:
        return self.field in ("risk", "id", "user", "rule") or self.value in row.haystack(self.field)


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed filter; `text` is what was typed."""

    text: str = ""
    terms: tuple[Term, ...] = ()

    def accepts_request(self, request: Request) -> bool:
        return all(term.accepts_request(request) for term in self.terms)

    def accepts_row(self, row: Row) -> bool:
        return all(term.accepts_row(row) for term in self.terms)


EVERYTHING = Query()


def parse(text: str) -> Query:
    """The query in *text*; nothing typed accepts everything.

    Raises:
        FilterError: an unknown risk, or a field without a value.
    """
    return Query(text.strip(), tuple(_term(word) for word in text.lower().split()))


def _term(word: str) -> Term:
    for operator in _OPERATORS:
        field, found, value = word.partition(operator)
        if found and field == "risk":
            return _risk(operator, value)
        if found and operator == ":" and field in _FIELDS:
            return _field(field, value)
    return Term("", word)


def _field(field: str, value: str) -> Term:
    if not value:
        raise FilterError(f"{field}: needs a value, such as {field}:mail")
    return Term(field, value)


def _risk(operator: str, value: str) -> Term:
    if value not in _RISKS:
        raise FilterError(f"a risk is low, med or high, not {value!r}; write risk>=med")
    rank = _RISKS[value].rank
    compare = {">=": ge, "<=": le, ">": gt, "<": lt}.get(operator, eq)
    return Term("risk", value, frozenset(r for r in range(3) if compare(r, rank)))
