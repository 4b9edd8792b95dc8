"""Joins what the packages say into the decision document: `fumehood.main` once more, as a pure function.

The embedded engine asks each package by its name (walking `data.policies[name]` would evaluate every
rule of every package) through a generated module (see index.py), and joins the answers here. A
property test holds `combine` equal to lib/main.rego.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from fumehood.canonical import JSON

__all__ = ["ENTRY", "PERMITS", "PHASES", "PUBLIC", "Found", "More", "combine"]

ENTRY = "fumehood.entry"

# phase → the rules that it asks for
PHASES: Mapping[str, tuple[str, ...]] = {
    "execute_tool": ("permit", "deny", "approve", "confine", "limit"),
    "connect": ("permit_connect", "deny_connect", "approve_connect"),
    "return_result": ("withhold", "redact", "label"),
}
PUBLIC = frozenset(rule for rules in PHASES.values() for rule in rules)

PERMITS = frozenset({"permit", "permit_connect"})
_CODES = {"deny": "denied_by_policy", "deny_connect": "denied_by_policy", "withhold": "withheld_by_policy"}
_TYPES = {
    "approve": "approve",
    "approve_connect": "approve",
    "confine": "confine",
    "limit": "limit",
    "redact": "redact",
    "label": "label",
}

# [] if undefined, else [[type name, value]]
Found = Sequence[tuple[str, JSON]]
# package → rule → what it said
Answers = Mapping[str, Mapping[str, Found]]
# (package, rule, items) that are known to be of the right type
More = Sequence[tuple[str, str, list[JSON]]]
Document = dict[str, JSON]


def combine(phase: str, answers: Answers, more: More = (), *, revision: str = "") -> Document:
    """The decision document: deny overrides, then permit, then the obligations joined."""
    granting: list[str] = []
    refusals: list[Document] = []
    asked: list[Document] = []
    strange: list[Document] = []
    for package, rule, found in (*_flat(answers), *_known(more)):
        full = f"policies.{package}.{rule}"
        for type_name, value in found:
            if rule in PERMITS and type_name == "boolean":
                granting.extend([full] if value is True else [])
            elif rule in PERMITS or type_name != "set":
                strange.append({"type": "unknown", "rule": full, "item": value})
            elif rule in _CODES:
                refusals.extend(_refusals(rule, full, value))
            else:
                asked.extend(_asked(rule, full, value))
    missing = _missing(phase, granting)
    if refusals or missing:
        spoke = [cast("str", reason["rule"]) for reason in refusals]
        return _document("deny", refusals or missing, strange, spoke, revision)
    spoke = granting + [cast("str", item["rule"]) for item in asked]
    return _document("permit", [], asked + strange, spoke, revision)


def _flat(answers: Answers) -> Iterator[tuple[str, str, Found]]:
    for package, rules in answers.items():
        for rule, found in rules.items():
            yield package, rule, found


def _known(more: More) -> Iterator[tuple[str, str, Found]]:
    for package, rule, items in more:
        if rule in PERMITS:
            yield package, rule, [("boolean", item) for item in items]
        else:
            yield package, rule, [("set", cast("JSON", items))]


def _refusals(rule: str, full: str, value: JSON) -> list[Document]:
    return [{"code": _CODES[rule], "rule": full, "item": item} for item in cast("list[JSON]", value)]


def _asked(rule: str, full: str, value: JSON) -> list[Document]:
    return [{"type": _TYPES[rule], "rule": full, "item": item} for item in cast("list[JSON]", value)]


def _missing(phase: str, granting: Sequence[str]) -> list[Document]:
    if phase not in PHASES:
        return [{"code": "unknown_phase", "item": "the policies know no such phase"}]
    if phase == "return_result" or granting:
        return []
    return [{"code": "no_permit", "item": "no policy permits this call"}]


def _document(
    effect: str, reasons: list[Document], obligations: list[Document], spoke: Iterable[str], revision: str
) -> Document:
    return {
        "effect": effect,
        "reasons": cast("JSON", reasons),
        "obligations": cast("JSON", obligations),
        "policy": {"revision": revision, "rules": cast("JSON", sorted(set(spoke)))},
    }
