"""The order of strictness, and how an answer is compared with what was expected."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fumehood.errors import PdpError
from fumehood.model import Approve, Confine, Decision, Effect, Label, Limit, Reason, Redact, Risk, Unknown
from fumehood.workbench.answers import Answer, answer_of, difference, failure_of, loosened, meets
from fumehood.workbench.cases import Expected


def permit(*obligations: Any) -> Answer:
    return answer_of(Decision(Effect.PERMIT, obligations=obligations))


DENY = answer_of(Decision(Effect.DENY, (Reason("denied_by_policy", "no", rule="policies.x.deny"),)))
PERMIT = permit()
ASK = permit(Approve("why", risk=Risk.HIGH, approvers=2, signed=True, rule="r"))
LIMIT = permit(Limit("k", 3, 60, rule="l"))
CONFINED = permit(Confine("python-offline", rule="c"))


def test_effects_are_three() -> None:
    assert [a.effect for a in (DENY, PERMIT, ASK, LIMIT)] == ["deny", "permit", "ask", "permit"]
    assert permit(Unknown("odd")).effect == "deny"
    assert failure_of(PdpError("late", code="pdp_timeout")).effect == "deny"


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (DENY, PERMIT, "deny becomes permit"),
        (DENY, ASK, "deny becomes ask"),
        (ASK, PERMIT, "ask becomes permit"),
        (ASK, permit(Approve("why", risk=Risk.LOW, approvers=2, signed=True, rule="r")), "asks for less"),
        (ASK, permit(Approve("why", risk=Risk.HIGH, approvers=1, signed=True, rule="r")), "asks for less"),
        (ASK, permit(Approve("why", risk=Risk.HIGH, approvers=2, rule="r")), "asks for less"),
        (ASK, permit(Approve("why", risk=Risk.HIGH, approvers=2, signed=True, rule="other")), "no longer"),
        (LIMIT, PERMIT, "limit of l is no longer"),
        (CONFINED, LIMIT, "confine of c is no longer"),
        (permit(Redact("/a", rule="x")), PERMIT, "redact"),
        (PERMIT, permit(Label("trusted", rule="x")), "labelled trusted"),
        (
            permit(Limit("a", 1, 1, rule="l"), Limit("b", 1, 1, rule="l")),
            permit(Limit("a", 1, 1, rule="l")),
            "no longer",
        ),
        (PERMIT, PERMIT, ""),
        (PERMIT, DENY, ""),
        (PERMIT, ASK, ""),
        (PERMIT, LIMIT, ""),
        (ASK, DENY, ""),
        (LIMIT, permit(Limit("other key", 3, 60, rule="l")), ""),
        (PERMIT, permit(Label("untrusted", rule="x")), ""),
        (permit(Label("trusted", rule="x")), permit(Label("trusted", rule="x")), ""),
    ],
)
def test_looser_is_what_permits_more(before: Answer, after: Answer, says: str) -> None:
    found = loosened(before, after)
    assert says in found if says else found == ""


ANSWERS = st.sampled_from([DENY, PERMIT, ASK, LIMIT, CONFINED, permit(Label("trusted", rule="x"))])


@given(ANSWERS, ANSWERS)
def test_nothing_is_looser_than_itself_and_effects_are_ordered(one: Answer, other: Answer) -> None:
    assert loosened(one, one) == ""
    if one.effect != other.effect:
        assert loosened(one, other) or loosened(other, one)


def reasons(*items: dict[str, Any]) -> Answer:
    return Answer("deny", items)


@pytest.mark.parametrize(
    ("answer", "expected", "does"),
    [
        (DENY, Expected("deny"), True),
        (DENY, Expected("permit"), False),
        (DENY, Expected("ask"), False),
        (ASK, Expected("permit"), False),
        (DENY, Expected("deny", ({"reason": "no"},)), True),
        (DENY, Expected("deny", ({"reason": "no", "code": "denied_by_policy"},)), True),
        (DENY, Expected("deny", ({"reason": "yes"},)), False),
        (DENY, Expected("deny", ()), False),
        (DENY, Expected("deny", ({"reason": "no"}, {"reason": "no"})), False),
        (reasons({"a": 1, "b": 1}, {"a": 1}), Expected("deny", ({"a": 1}, {"a": 1, "b": 1})), True),
        (reasons({"a": 1, "b": 1}, {"a": 1}), Expected("deny", ({"b": 1}, {"b": 1})), False),
        (reasons({"a": True}), Expected("deny", ({"a": 1},)), False),
        (reasons({"a": 1}), Expected("deny", ({"a": 1.0},)), True),
        (LIMIT, Expected("permit", None, ({"type": "limit", "max": 3},)), True),
        (LIMIT, Expected("permit", None, ({"type": "limit", "item": {"key": "k", "per_s": 60}},)), True),
        (LIMIT, Expected("permit", None, ({"type": "limit", "item": {"key": "other"}},)), False),
        (CONFINED, Expected("permit", None, ({"type": "confine", "item": "python-offline"},)), True),
        (CONFINED, Expected("permit", None, ({"type": "confine", "item": "shell"},)), False),
        (LIMIT, Expected("permit", None, ()), False),
        (ASK, Expected("ask", None, ()), True),
        (ASK, Expected("ask", None, ({"type": "approve", "risk": "low"},)), False),
        (LIMIT, Expected("permit"), True),
        (
            ASK,
            Expected("ask", ({"reason": "why"},), ({"type": "approve", "risk": "high", "approvers": 2},)),
            True,
        ),
    ],
)
def test_items_are_compared_by_the_fields_that_are_named(
    answer: Answer, expected: Expected, does: bool
) -> None:
    assert meets(answer, expected) is does
    assert bool(difference(answer, expected)) is not does


def test_difference_shows_whole_items_once() -> None:
    lines = difference(DENY, Expected("permit", None, ({"type": "limit"},)))
    assert "-effect: permit" in lines
    assert "+effect: deny" in lines
    assert '-obligation: {"type": "limit"}' in lines
    assert not any(line.startswith("+reason") for line in lines)
