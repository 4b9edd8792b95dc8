"""What was decided, as values that a person can read, compare and order.

The order of strictness: *deny* over *ask* over *permit*; between two that both let a call run, the one that
asks for more (an approval, a confinement, a limit, a redaction) is the stricter.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import Enum

from fumehood.canonical import JSON
from fumehood.errors import PdpError
from fumehood.model import Approve, Decision, Obligation, Reason, understood
from fumehood.workbench.cases import Expected

__all__ = ["Answer", "answer_of", "difference", "failure_of", "loosened", "meets"]

Item = Mapping[str, JSON]
_RANK = {"permit": 0, "ask": 1, "deny": 2}
_RISKS = ("low", "medium", "high")
_ENDED = ("pdp_timeout", "pdp_crashed")
_UNTRUSTED = "untrusted"
_TEXTS = ("reason", "profile", "label")  # what an item that is a text becomes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the guard would act on: "permit" (runs at once), "ask" (a person must agree) or "deny"."""

    effect: str
    reasons: tuple[Item, ...]
    obligations: tuple[Item, ...] = ()
    rules: tuple[str, ...] = ()

    @property
    def too_late(self) -> str:
        """Why the policies had to be ended before they said anything, or ""."""
        said = [str(r.get("reason")) for r in self.reasons if r.get("code") in _ENDED and "rule" not in r]
        return said[0] if said else ""

    def as_json(self) -> dict[str, JSON]:
        """For a program, or a diff."""
        return {
            "effect": self.effect,
            "reasons": [dict(item) for item in self.reasons],
            "obligations": [dict(item) for item in self.obligations],
        }


def answer_of(decision: Decision) -> Answer:
    """*decision* as the guard understands it: an obligation that nobody knows is a deny."""
    known = understood(decision)
    if not known.is_permit:
        return Answer("deny", tuple(map(_reason, known.reasons)), (), known.rules)
    asked = tuple({"reason": a.reason, "rule": a.rule} for a in known.approvals)
    return Answer(
        "ask" if known.approvals else "permit", asked, tuple(map(_obligation, known.obligations)), known.rules
    )


def failure_of(error: PdpError) -> Answer:
    """What the guard makes of an engine that gave no answer."""
    return Answer("deny", ({"code": error.code, "reason": str(error)},))


def meets(answer: Answer, expected: Expected) -> bool:
    """Does *answer* say what was expected?"""
    return (
        answer.effect == expected.effect
        and _same_items(answer.reasons, expected.reasons)
        and _same_items(_meant(answer, expected), expected.obligations)
    )


def _meant(answer: Answer, expected: Expected) -> Sequence[Item]:
    """The obligations that a row is about: its effect says already that somebody is asked."""
    if any(item.get("type") == "approve" for item in expected.obligations or ()):
        return answer.obligations
    return [item for item in answer.obligations if item.get("type") != "approve"]


def difference(answer: Answer, expected: Expected) -> list[str]:
    """From what was expected to what was decided, as a diff."""
    meant = _meant(answer, expected)
    wanted = {
        "effect": expected.effect,
        "reasons": _paired(answer.reasons, expected.reasons),
        "obligations": _paired(meant, expected.obligations),
    }
    found = answer.as_json() | {"obligations": [dict(item) for item in meant]}
    before, after = _lines(wanted), _lines(found)
    compared = difflib.unified_diff(before, after, "expected", "decided", n=2, lineterm="")
    return [line for line in compared if not line.startswith("@@")]


def loosened(before: Answer, after: Answer) -> str:
    """How *after* allows more than *before*, or ""."""
    if _RANK[after.effect] < _RANK[before.effect]:
        return f"{before.effect} becomes {after.effect}"
    if after.effect == "deny":
        return ""
    return next(_less_is_asked(before, after), "")


def _less_is_asked(before: Answer, after: Answer) -> Iterator[str]:
    left = list(after.obligations)
    for item in before.obligations:
        kind, rule = item.get("type"), item.get("rule")
        if kind == "label":
            continue
        # What looks most alike is the same item: one rule may say several things.
        same = [other for other in left if (other.get("type"), other.get("rule")) == (kind, rule)]
        found = max(same, key=lambda other: _likeness(item, other), default=None)
        if found is None:
            yield f"{kind} of {rule} is no longer asked for"
            continue
        left.remove(found)
        if kind == "approve" and _weaker(item, found):
            yield f"the approval of {rule} asks for less"
    had = {item.get("label") for item in before.obligations if item.get("type") == "label"}
    for item in after.obligations:
        if item.get("type") == "label" and item.get("label") not in had | {_UNTRUSTED}:
            yield f"the result is labelled {item.get('label')}"


def _likeness(one: Item, other: Item) -> int:
    return sum(other.get(name) == value for name, value in one.items())


def _weaker(before: Item, after: Item) -> bool:
    """Less risk, fewer people, or a rule for who they are that is gone."""
    risk = _RISKS.index(str(after["risk"])) < _RISKS.index(str(before["risk"]))
    flags = any(before.get(flag) and not after.get(flag) for flag in ("separate", "signed", "always"))
    return risk or flags or _number(after, "approvers") < _number(before, "approvers")


def _number(item: Item, name: str) -> float:
    value = item.get(name, 1)
    return float(value) if isinstance(value, int | float) else 1.0


def _same_items(found: Sequence[Item], wanted: Sequence[Item] | None) -> bool:
    """Every item that is wanted is there, and no other."""
    return wanted is None or (len(found) == len(wanted) and len(_pairs(found, wanted)) == len(wanted))


def _pairs(found: Sequence[Item], wanted: Sequence[Item]) -> dict[int, int]:
    """Which item each wanted one is, wanted → found: as many as can be (augmenting paths)."""
    owner: dict[int, int] = {}

    def place(wish: int, tried: set[int]) -> bool:
        for index, item in enumerate(found):
            if index in tried or not _matches(item, wanted[wish]):
                continue
            tried.add(index)
            if index not in owner or place(owner[index], tried):
                owner[index] = wish
                return True
        return False

    for wish in range(len(wanted)):
        place(wish, set())
    return {wish: index for index, wish in owner.items()}


def _matches(item: Item, pattern: Item) -> bool:
    return all(_has(item, name, value) for name, value in pattern.items())


def _has(item: Item, name: str, value: JSON) -> bool:
    """`item` is what the rule said, as in `main.decision`: its fields, or the one text that it was."""
    if name == "item" and isinstance(value, dict):
        return _matches(item, value)
    if name == "item":
        return any(_equal(item[field], value) for field in _TEXTS if field in item)
    return name in item and _equal(item[name], value)


def _equal(one: JSON, other: JSON) -> bool:
    """Equal as JSON: true is not 1, 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return one == other


def _paired(found: Sequence[Item], wanted: Sequence[Item] | None) -> list[Item]:
    """What was wanted, in the order and the words of what was found where it is the same."""
    if wanted is None:
        return list(found)
    pairs = _pairs(found, wanted)
    order = sorted(range(len(wanted)), key=lambda wish: pairs.get(wish, len(found)))
    return [found[pairs[wish]] if wish in pairs else wanted[wish] for wish in order]


def _lines(document: Mapping[str, object]) -> list[str]:
    """One line for each item, so that a diff shows whole items."""
    lines: list[str] = [f"effect: {document['effect']}"]
    for part in ("reasons", "obligations"):
        items = document[part]
        assert isinstance(items, Iterable)
        lines += [f"{part[:-1]}: {json.dumps(item, ensure_ascii=False)}" for item in items]
    return lines


def _reason(reason: Reason) -> Item:
    said = _said(reason)
    return {"reason" if name == "text" else name: value for name, value in said.items()}


def _obligation(obligation: Obligation) -> Item:
    kind = "approve" if isinstance(obligation, Approve) else type(obligation).__name__.lower()
    said = _said(obligation)
    if kind == "confine":
        limits = said.get("limits")
        said |= {"limits": dict(limits)} if limits else {}  # type: ignore[arg-type]
    return {"type": kind, **said}


def _said(value: object) -> dict[str, JSON]:
    """The fields of a frozen value; flags and lists that an author left out are absent."""
    found: dict[str, JSON] = {}
    for field in fields(value):  # type: ignore[arg-type]
        item = getattr(value, field.name)
        is_default = field.default is not MISSING and item == field.default
        if item is None or (is_default and (isinstance(item, bool) or item == ())):
            continue
        found[field.name] = item.value if isinstance(item, Enum) else _plain(item)
    return found


def _plain(item: object) -> JSON:
    if isinstance(item, float) and item.is_integer():
        return int(item)
    return [_plain(part) for part in item] if isinstance(item, tuple) else item  # type: ignore[return-value]
