"""A decision document is parsed strictly; what one rule said oddly becomes Unknown, never a guess."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fumehood.canonical import JSON
from fumehood.errors import PdpError
from fumehood.model import Approve, Confine, Decision, Effect, Label, Limit, Redact, Risk, Unknown, understood
from fumehood.pdp.decision import decision_from


def permitting(kind: str, item: JSON) -> dict[str, JSON]:
    return {
        "effect": "permit",
        "reasons": [],
        "obligations": [{"type": kind, "rule": f"policies.x.{kind}", "item": item}],
        "policy": {"revision": "r", "rules": ["policies.x.permit"]},
    }


def denying(item: JSON) -> dict[str, JSON]:
    return {
        "effect": "deny",
        "reasons": [{"code": "denied_by_policy", "rule": "policies.x.deny", "item": item}],
        "obligations": [],
        "policy": {"revision": "r", "rules": ["policies.x.deny"]},
    }


def test_every_kind_of_obligation_is_read() -> None:
    rule = "policies.x.{}".format
    read = [
        (
            "approve",
            {
                "reason": "a",
                "risk": "high",
                "timeout_s": 9,
                "on_timeout": "wait",
                "approvers": 2,
                "signed": True,
            },
            Approve("a", Risk.HIGH, 9.0, "wait", 2, signed=True, rule=rule("approve")),
        ),
        ("confine", "shell", Confine("shell", rule=rule("confine"))),
        (
            "confine",
            {"profile": "shell", "read": ["/a"], "limits": {"cpu_s": 1}},
            Confine("shell", ("/a",), limits=(("cpu_s", 1.0),), rule=rule("confine")),
        ),
        ("limit", {"key": "k", "max": 20, "per_s": 60}, Limit("k", 20.0, 60.0, rule=rule("limit"))),
        ("redact", {"path": "/a"}, Redact(path="/a", rule=rule("redact"))),
        ("redact", {"pattern": "a+"}, Redact(pattern="a+", rule=rule("redact"))),
        ("label", "internal", Label("internal", rule=rule("label"))),
    ]
    for kind, item, expected in read:
        assert decision_from(permitting(kind, item)).obligations == (expected,)


def test_deny_keeps_reason_remedy_and_detail_apart() -> None:
    decision = decision_from(
        denying({"reason": "no", "remedy": "do", "detail": {"to": "x"}, "controls": ["ASI02"]})
    )
    (reason,) = decision.reasons
    assert (reason.text, reason.remedy, reason.detail) == ("no", "do", '{"to": "x"}')
    assert (reason.code, reason.controls, reason.rule) == ("denied_by_policy", ("ASI02",), "policies.x.deny")
    assert "x" not in decision.explain()


ODD: list[tuple[str, JSON]] = [
    ("approve", "please"),
    ("approve", {"reason": "a"}),
    ("approve", {"reason": "a", "risk": "hgh"}),
    ("approve", {"reason": "", "risk": "low"}),
    ("approve", {"reason": "a", "risk": "low", "timeout_s": 0}),
    ("approve", {"reason": "a", "risk": "low", "timeout_s": True}),
    ("approve", {"reason": "a", "risk": "low", "timeout_s": "9"}),
    ("approve", {"reason": "a", "risk": "low", "timeout_s": 1e400}),
    ("approve", {"reason": "a", "risk": "low", "timeout_s": float("nan")}),
    ("approve", {"reason": "a", "risk": "low", "approvers": 0}),
    ("approve", {"reason": "a", "risk": "low", "approvers": 1.5}),
    ("approve", {"reason": "a", "risk": "low", "separate": 1}),
    ("approve", {"reason": "a", "risk": "low", "on_timeout": "permit"}),
    ("approve", {"reason": "a", "risk": "low", "unless": "friday"}),
    ("confine", 3),
    ("confine", ""),
    ("confine", {"read": ["/a"]}),
    ("confine", {"profile": "a", "read": "/a"}),
    ("confine", {"profile": "a", "limits": {"cpu_s": -1}}),
    ("limit", {"key": "k", "max": -1, "per_s": 60}),
    ("limit", {"key": "k", "max": 1, "per_s": 0}),
    ("limit", {"key": "k", "max": 1, "per_s": 60, "cost": -1}),
    ("limit", {"key": "k", "max": "1", "per_s": 60}),
    ("limit", {"key": 3, "max": 1, "per_s": 60}),
    ("redact", {"path": "a"}),
    ("redact", {"path": "/a", "pattern": "b"}),
    ("redact", {}),
    ("label", {"label": "x"}),
    ("label", None),
    ("spotlight", "x"),
]


@pytest.mark.parametrize(("kind", "item"), ODD)
def test_odd_obligation_is_unknown_and_denied(kind: str, item: JSON) -> None:
    decision = decision_from(permitting(kind, item))
    assert [type(o) for o in decision.obligations] == [Unknown]
    assert understood(decision).effect is Effect.DENY


@pytest.mark.parametrize(
    "item", [3, None, [], {}, {"reason": 3}, {"reason": "a", "why": "b"}, {"remedy": "a"}, ""]
)
def test_odd_deny_still_denies(item: JSON) -> None:
    decision = decision_from(denying(item))
    assert decision.effect is Effect.DENY
    assert decision.reasons[0].code == "denied_by_policy"
    assert any(isinstance(o, Unknown) for o in decision.obligations)


MALFORMED: list[JSON] = [
    None,
    [],
    "permit",
    {},
    {"effect": "permit"},
    {**permitting("label", "x"), "effect": "Permit"},
    {**permitting("label", "x"), "effect": True},
    {**permitting("label", "x"), "extra": 1},
    {**permitting("label", "x"), "reasons": {}},
    {**permitting("label", "x"), "reasons": ["no"]},
    {**permitting("label", "x"), "reasons": [{"code": 3, "item": "x"}]},
    {**permitting("label", "x"), "obligations": {}},
    {**permitting("label", "x"), "obligations": [{"type": "label"}]},
    {**permitting("label", "x"), "policy": {"revision": "r"}},
    {**permitting("label", "x"), "policy": {"revision": "r", "rules": [3]}},
]


@pytest.mark.parametrize("document", MALFORMED)
def test_what_is_no_decision_is_an_error(document: JSON) -> None:
    with pytest.raises(PdpError) as raised:
        decision_from(document)
    assert raised.value.code == "pdp_malformed"


def test_another_revision_is_no_decision() -> None:
    with pytest.raises(PdpError) as raised:
        decision_from(permitting("label", "x"), revision="sha256:other")
    assert raised.value.code == "pdp_error"


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(item=JSONS, kind=st.sampled_from(["approve", "confine", "limit", "redact", "label", "deny"]))
def test_any_item_is_read_or_unknown_and_never_raises(item: JSON, kind: str) -> None:
    decision = decision_from(denying(item) if kind == "deny" else permitting(kind, item))
    assert isinstance(decision, Decision)
    assert all(json.dumps(o.body) for o in decision.obligations if isinstance(o, Unknown))


@given(document=JSONS)
def test_any_document_is_a_decision_or_a_pdp_error(document: JSON) -> None:
    with pytest.raises(PdpError):
        decision_from(document)
