"""The texts of a new policy folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fumehood.canonical import JSON

if TYPE_CHECKING:
    from fumehood.workbench.scaffold import Plan

__all__ = ["cases_text", "policy_text", "tests_text"]


def policy_text(plan: Plan, mark: str) -> str:
    """The rules."""
    parts = [_head(plan), *([_reading(plan, mark)] if plan.reader else []), _bound(plan, mark)]
    parts += [_permit(plan), _approve(plan, mark), _deny(plan)]
    remedy = "so it is denied. Write one, or delete this line."
    parts += [f"# {mark}: no rule names {name}, {remedy}" for name in plan.others]
    return "\n\n".join(parts) + "\n"


def _head(plan: Plan) -> str:
    return f"""# METADATA
# title: First rules for {plan.actor.name}
# description: Silence means no. What no `permit` allows is denied, and a `deny` always wins.
# custom:
#   controls: [ASI02]
package policies.{plan.name}

import data.fumehood.call"""


def _reading(plan: Plan, mark: str) -> str:
    assert plan.reader is not None
    tool = plan.reader.name
    return f"""# METADATA
# title: Reading runs at once
# description: "{mark}: may every agent see whatever {tool} returns?"
permit if call.tool == {_text(tool)}"""


def _bound(plan: Plan, mark: str) -> str:
    what = f"`{plan.bound.name}`" if plan.bound else "the number of arguments"
    return f"# {mark}: is {plan.most} the most that {what} may ever be?\n_most := {plan.most}"


def _permit(plan: Plan) -> str:
    checks = [argument.check for argument in plan.required]
    positive = [f"{plan.measure} > 0"] if plan.bound and plan.bound.type in ("number", "integer") else []
    lines = [f"call.tool == {_text(plan.actor.name)}", *checks, *positive, f"{plan.measure} <= _most"]
    return f"""# METADATA
# title: Within the bound
# description: Bounds stand where silence means no. An absent, null or odd argument permits nothing.
permit if {{
{_indented(lines)}
}}"""


def _approve(plan: Plan, mark: str) -> str:
    lines = [f"call.tool == {_text(plan.actor.name)}", *(["not _is_trusted"] if plan.trusted else [])]
    reason = _reason(plan)
    helper = f"\n\n_is_trusted if call.trusted({_text(plan.trusted.pointer)})" if plan.trusted else ""
    return f"""# METADATA
# title: A person has to agree
# description: "{mark}: who answers, is the risk high, and are 300 seconds enough for them?"
# custom:
#   controls: [ASI01]
approve contains {{"reason": {_text(reason)}, "risk": "high", "timeout_s": 300}} if {{
{_indented(lines)}
}}{helper}"""


def _reason(plan: Plan) -> str:
    if plan.trusted is None:
        return "this tool has an effect that cannot be taken back"
    return f"{plan.trusted.name} is not known to come from the user"


def _deny(plan: Plan) -> str:
    lines = [f"call.tool == {_text(plan.actor.name)}", f"{plan.measure} > _most"]
    return f"""# METADATA
# title: Never beyond the bound
# custom:
#   controls: [ASI02]
deny contains {{"reason": {_text(_DENIED)}, "controls": ["ASI02"]}} if {{
{_indented(lines)}
}}"""


_DENIED = "this is beyond the bound, and never automatic"


def tests_text(plan: Plan) -> str:
    """`*_test.rego`, for this command and for `opa test`."""
    first = [_test_reading(plan)] if plan.reader else []
    return "\n\n".join([_tests_head(plan), *first, _test_ask(plan), _test_deny(plan)]) + "\n"


def _tests_head(plan: Plan) -> str:
    return f"""package policies.{plan.name}_test

import data.fumehood.main

_call(tool, args) := {{
	"action": {{"name": "execute_tool", "properties": {{"args": args}}}},
	"resource": {{"type": "tool", "id": tool}},
}}"""


def _test_reading(plan: Plan) -> str:
    assert plan.reader is not None
    return f"""test_reading_runs_at_once if {{
	decision := main.decision with input as _call({_text(plan.reader.name)}, {{}})
	decision.effect == "permit"
	count(decision.obligations) == 0
}}"""


def _test_ask(plan: Plan) -> str:
    return f"""test_of_unknown_origin_waits_for_a_person if {{
	decision := main.decision with input as _call({_text(plan.actor.name)}, {_json(plan.sample())})
	decision.effect == "permit"
	some obligation in decision.obligations
	obligation.type == "approve"
}}"""


def _test_deny(plan: Plan) -> str:
    bound = f"_call({_text(plan.actor.name)}, {_rego_beyond(plan)})"
    return f"""test_beyond_the_bound_is_denied if {{
	decision := main.decision with input as {bound}
	decision.effect == "deny"
	decision.policy.rules == {{"policies.{plan.name}.deny"}}
}}"""


def _rego_beyond(plan: Plan) -> str:
    """As `plan.beyond`, without a thousand letters."""
    if plan.bound is None or plan.bound.type in ("number", "integer"):
        return _json(plan.beyond())
    numbers = f"numbers.range(0, {plan.most})"
    is_text = plan.bound.type == "string"
    value = f'concat("", ["x" | some _ in {numbers}])' if is_text else f"[n | some n in {numbers}]"
    rest = {name: item for name, item in plan.sample().items() if name != plan.bound.name}
    fields = [f"{_text(name)}: {_json(item)}" for name, item in rest.items()]
    return "{" + ", ".join([*fields, f"{_text(plan.bound.name)}: {value}"]) + "}"


def cases_text(plan: Plan, mark: str) -> str:
    """The case table."""
    actor, sample = plan.actor.name, plan.sample()
    permit, deny = {"effect": "permit"}, {"effect": "deny", "reasons": [_DENIED]}
    rows = [_row("reading runs at once", plan.reader.name, {}, permit)] if plan.reader else []
    if plan.trusted:
        origins = {plan.trusted.pointer: "user"}
        rows.append(_row("what the user named runs at once", actor, sample, permit, origins))
    asked = {"effect": "ask", "reasons": [_reason(plan)]}
    rows.append(_row("of unknown origin it waits", actor, sample, asked))
    rows.append(_row("beyond the bound it is denied", actor, plan.beyond(), deny) + _allowances(plan))
    if plan.bound:
        rows.append(_row("null is no bound", actor, sample | {plan.bound.name: None}, {"effect": "deny"}))
    comment = f"  # {mark}: add a row for each call that must never run; then delete this line."
    return "cases:\n" + "\n".join(rows) + f"\n{comment}\n"


def _allowances(plan: Plan) -> str:
    """With one argument fewer a call with too many of them is a call like any other."""
    if plan.bound:
        return ""
    because = "with one fewer it is within the bound"
    rows = [f"\n      - {{at: /{name}, mutation: removed, because: {because}}}" for name in plan.extras]
    return "\n    allow:" + "".join(rows)


def _row(
    name: str,
    tool: str,
    args: Mapping[str, JSON],
    expect: Mapping[str, object],
    origins: Mapping[str, str] | None = None,
) -> str:
    more = f", origins: {_json(origins)}" if origins else ""
    return f"""  - name: {name}
    input: {{tool: {_text(tool)}, args: {_json(args)}{more}}}
    expect: {_json(expect)}"""


def _indented(lines: list[str]) -> str:
    return "\n".join(f"\t{line}" for line in lines)


def _text(text: str) -> str:
    return json.dumps(text)


def _json(value: object) -> str:
    return json.dumps(value)
