"""What rules say, as far as it is written out: a misspelt key would be an obligation nobody understands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from fumehood.canonical import JSON
from fumehood.errors import PdpError, Problem
from fumehood.model import Unknown
from fumehood.pdp.combine import PHASES, combine
from fumehood.pdp.decision import decision_from
from fumehood.pdp.gate.context import Context
from fumehood.pdp.syntax import Module, Node, Rule, kind_of, start_of

__all__ = ["check_items"]

_REFUSALS = frozenset({"deny", "deny_connect", "withhold"})
_FIXED = frozenset({"reason", "remedy"})

# Stands for a part that is only known when a call is decided.
_LIKELY: Mapping[str, JSON] = {
    "reason": "text", "remedy": "text", "detail": "text", "retryable": True, "controls": [],
    "risk": "low", "timeout_s": 1, "on_timeout": "deny", "approvers": 1, "separate": False, "signed": False,
    "always": False, "profile": "name", "read": [], "write": [], "limits": {}, "network": [], "stage": [],
    "key": "text", "max": 1, "per_s": 1, "cost": 1, "path": "/", "pattern": "text",
}  # fmt: skip

_FORMS = {
    "deny": "a text or {reason, remedy?, detail?, retryable?, controls?}",
    "approve": "{reason, risk: low|medium|high, timeout_s?, on_timeout?: deny|wait, approvers?, separate?, "
    "signed?, always?, controls?}",
    "confine": "a profile's name or {profile, read?, write?, limits?, network?, stage?}",
    "limit": "{key, max, per_s, cost?}",
    "redact": "{path} or {pattern}",
    "label": "a text",
}
_PHASE_OF = {rule: phase for phase, rules in PHASES.items() for rule in rules}
_FORM_OF = {"deny_connect": "deny", "withhold": "deny", "approve_connect": "approve"}


def check_items(context: Context) -> Iterator[Problem]:
    for module, rule in context.each_rule():
        if rule.shape == "set" and rule.key is not None and _form(rule.name):
            yield from _item(module, rule, rule.key)


def _form(rule: str) -> str | None:
    return _FORMS.get(_FORM_OF.get(rule, rule))


def _item(module: Module, rule: Rule, key: Node) -> Iterator[Problem]:
    kind, body = kind_of(key)
    has_reason = rule.name in _REFUSALS or rule.name.startswith("approve")
    if kind == "Object":
        variable = _variable_text(body) if has_reason else None
        if variable is not None:
            yield _not_fixed(module, variable)
    elif has_reason and kind not in ("String", "RawString"):
        yield _not_fixed(module, key)
        return
    value = _literal(key, None)
    if value is not None and not _is_understood(rule.name, value):
        remedy = f"Write {_form(rule.name)}."
        yield module.problem(rule.key_start, f"nobody understands this `{rule.name}`", remedy)


def _variable_text(body: Node) -> Node | None:
    """The first reason or remedy, or what could be one, that is not written out."""
    for _, name, value in cast("list[tuple[object, Node, Node]]", body["fields"]):
        is_open = kind_of(name)[0] not in ("String", "RawString")  # it could turn out to be "reason"
        is_told = is_open or kind_of(name)[1].get("value") in _FIXED
        if is_told and kind_of(value)[0] not in ("String", "RawString"):
            return value
    return None


def _not_fixed(module: Module, node: Node) -> Problem:
    return module.problem(
        start_of(kind_of(node)[1]),
        "`reason` and `remedy` reach the agent and must be fixed text: what varies could leak",
        'Write {"reason": "fixed text", "detail": …}; `detail` reaches only the operator and the record.',
    )


def _literal(node: Node, key: str | None) -> JSON:
    """The value of *node*, with something likely for what is not written out; None if nothing is known."""
    kind, body = kind_of(node)
    if kind in ("String", "RawString", "Number", "Bool"):
        return cast("JSON", body["value"])
    if kind in ("Array", "Set"):
        return [_literal(item, None) or "text" for item in cast("list[Node]", body["items"])]
    if kind == "Object" and key is None:
        fields = cast("list[tuple[object, Node, Node]]", body["fields"])
        names = [kind_of(name) for _, name, _ in fields]
        if any(name_kind not in ("String", "RawString") for name_kind, _ in names):
            return None
        texts = [cast("str", name["value"]) for _, name in names]
        return {text: _literal(value, text) for text, (_, _, value) in zip(texts, fields, strict=True)}
    return _LIKELY.get(key) if key else None


def _is_understood(rule: str, value: JSON) -> bool:
    answers = {
        "check": {
            "permit": [("boolean", True)],
            "permit_connect": [("boolean", True)],
            rule: [("set", [value])],
        }
    }
    try:
        decision = decision_from(cast("JSON", combine(_PHASE_OF[rule], cast("dict", answers))))  # type: ignore[type-arg]
    except PdpError:
        return False
    return not any(isinstance(o, Unknown) for o in decision.obligations)
