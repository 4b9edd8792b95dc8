"""Parses a decision document, strictly: a field too many, a wrong type or an odd number is never guessed at.

What one rule said and nobody understands becomes `Unknown`, which the flow turns into a deny. A
document that as a whole is not a decision is a PdpError. Written by hand because it is on the hot path.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import cast

from fumehood.canonical import JSON
from fumehood.errors import PdpError
from fumehood.model import (
    Approve,
    Confine,
    Decision,
    Effect,
    Label,
    Limit,
    Obligation,
    Reason,
    Redact,
    Risk,
    Unknown,
)

__all__ = ["decision_from"]

Fields = Mapping[str, JSON]


class _Odd(Exception):
    """An item of one rule that nobody understands."""


def decision_from(document: JSON, *, revision: str | None = None) -> Decision:
    """The decision in *document*.

    Raises:
        PdpError: `pdp_malformed`, or `pdp_error` if another revision than *revision* decided.
    """
    whole = _fields(document, "effect", "reasons", "obligations", "policy")
    policy = _fields(whole["policy"], "revision", "rules")
    found = policy["revision"]
    if revision is not None and found != revision:
        raise PdpError(f"decided by revision {found!r}, expected {revision!r}", code="pdp_error")
    reasons, odd = _reasons(whole["reasons"])
    obligations = [*odd, *map(_obligation, _list(whole["obligations"]))]
    return Decision(
        _effect(whole["effect"]),
        tuple(sorted(dict.fromkeys(reasons), key=repr)),
        tuple(sorted(dict.fromkeys(obligations), key=repr)),
        revision=cast("str", found),
        rules=_rules(policy["rules"]),
    )


def _malformed(what: str) -> PdpError:
    return PdpError(f"not a decision document: {what}", code="pdp_malformed")


def _fields(value: JSON, *names: str) -> Fields:
    if not isinstance(value, dict) or value.keys() != set(names):
        raise _malformed(f"expected an object of {', '.join(names)}")
    return value


def _list(value: JSON) -> list[JSON]:
    if not isinstance(value, list):
        raise _malformed("expected a list")
    return value


def _effect(value: JSON) -> Effect:
    if value == "permit":
        return Effect.PERMIT
    if value == "deny":
        return Effect.DENY
    raise _malformed('the effect is neither "permit" nor "deny"')


def _rules(value: JSON) -> tuple[str, ...]:
    rules = _list(value)
    if not all(isinstance(rule, str) for rule in rules):
        raise _malformed("a rule's name is not a text")
    return tuple(cast("list[str]", rules))


def _reasons(value: JSON) -> tuple[list[Reason], list[Obligation]]:
    """The reasons; what a deny rule said oddly denies all the same, and is kept as `Unknown`."""
    reasons: list[Reason] = []
    odd: list[Obligation] = []
    for entry in _list(value):
        if not isinstance(entry, dict) or not {"code", "item"} <= entry.keys() <= {"code", "item", "rule"}:
            raise _malformed("a reason needs code, item, and rule")
        code, rule = entry["code"], entry.get("rule")
        if not isinstance(code, str) or not isinstance(rule, str | None):
            raise _malformed("a reason's code or rule is not a text")
        try:
            reasons.append(_reason(code, entry["item"], rule))
        except _Odd:
            reasons.append(Reason(code, "a policy refuses this call", rule=rule))
            odd.append(_unknown(rule or code, entry["item"]))
    return reasons, odd


def _obligation(entry: JSON) -> Obligation:
    fields = _fields(entry, "type", "rule", "item")
    kind, rule, item = fields["type"], fields["rule"], fields["item"]
    if not isinstance(kind, str) or not isinstance(rule, str):
        raise _malformed("an obligation's type or rule is not a text")
    read = _READERS.get(kind)
    try:
        return read(item, rule) if read else _unknown(rule, item)
    except _Odd:
        return _unknown(rule, item)


def _unknown(name: str, item: JSON) -> Unknown:
    return Unknown(name, json.dumps(item, sort_keys=True, ensure_ascii=False))


# What one rule says. A reader takes exactly the keys it knows and raises _Odd for anything else.


def _reason(code: str, item: JSON, rule: str | None) -> Reason:
    if isinstance(item, str):
        return Reason(code, _text(item), rule=rule)
    fields = _keys(item, {"reason"}, {"remedy", "detail", "retryable", "controls"})
    return Reason(
        code,
        _text(fields["reason"]),
        remedy=_text(fields["remedy"]) if "remedy" in fields else None,
        detail=_detail(fields["detail"]) if "detail" in fields else None,
        retryable=_flag(fields.get("retryable", False)),
        controls=_texts(fields.get("controls", [])),
        rule=rule,
    )


def _approve(item: JSON, rule: str) -> Approve:
    flags = {"separate", "signed", "always"}
    fields = _keys(item, {"reason", "risk"}, {"timeout_s", "on_timeout", "approvers", "controls", *flags})
    return Approve(
        _text(fields["reason"]),
        risk=Risk(_one_of(fields["risk"], "low", "medium", "high")),
        timeout_s=_positive(fields.get("timeout_s", 300.0)),
        on_timeout=_one_of(fields.get("on_timeout", "deny"), "deny", "wait"),
        approvers=_count(fields.get("approvers", 1)),
        separate=_flag(fields.get("separate", False)),
        signed=_flag(fields.get("signed", False)),
        always=_flag(fields.get("always", False)),
        controls=_texts(fields.get("controls", [])),
        rule=rule,
    )


def _confine(item: JSON, rule: str) -> Confine:
    if isinstance(item, str):
        return Confine(_text(item), rule=rule)
    fields = _keys(item, {"profile"}, {"read", "write", "limits", "network", "stage"})
    limits = fields.get("limits", {})
    if not isinstance(limits, dict):
        raise _Odd
    return Confine(
        _text(fields["profile"]),
        read=_texts(fields.get("read", [])),
        write=_texts(fields.get("write", [])),
        limits=tuple((name, _amount(limits[name])) for name in sorted(limits)),
        network=_texts(fields.get("network", [])),
        stage=_texts(fields.get("stage", [])),
        rule=rule,
    )


def _limit(item: JSON, rule: str) -> Limit:
    fields = _keys(item, {"key", "max", "per_s"}, {"cost"})
    return Limit(
        _text(fields["key"]),
        _amount(fields["max"]),
        _positive(fields["per_s"]),
        _amount(fields.get("cost", 1.0)),
        rule=rule,
    )


def _redact(item: JSON, rule: str) -> Redact:
    fields = _keys(item, set(), {"path", "pattern"})
    if len(fields) != 1:
        raise _Odd
    if "pattern" in fields:
        return Redact(pattern=_text(fields["pattern"]), rule=rule)
    path = fields["path"]
    if not isinstance(path, str) or (path and not path.startswith("/")):
        raise _Odd
    return Redact(path=path, rule=rule)


def _label(item: JSON, rule: str) -> Label:
    return Label(_text(item), rule=rule)


_READERS: Mapping[str, Callable[[JSON, str], Obligation]] = {
    "approve": _approve,
    "confine": _confine,
    "limit": _limit,
    "redact": _redact,
    "label": _label,
}


def _keys(value: JSON, required: set[str], optional: set[str]) -> Fields:
    if not isinstance(value, dict) or not required <= value.keys() <= required | optional:
        raise _Odd
    return value


def _text(value: JSON) -> str:
    if not isinstance(value, str) or not value:
        raise _Odd
    return value


def _detail(value: JSON) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _texts(value: JSON) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _Odd
    return tuple(map(_text, value))


def _flag(value: JSON) -> bool:
    if not isinstance(value, bool):
        raise _Odd
    return value


def _one_of(value: JSON, *allowed: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise _Odd
    return value


def _count(value: JSON) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100:
        raise _Odd
    return value


def _amount(value: JSON) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Odd
    number = float(value) if abs(value) < 2**53 else math.inf
    if not math.isfinite(number) or number < 0:
        raise _Odd
    return number


def _positive(value: JSON) -> float:
    number = _amount(value)
    if number == 0:
        raise _Odd
    return number
