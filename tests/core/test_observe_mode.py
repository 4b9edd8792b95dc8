"""Observe, then enforce: what is skipped, what never is, and that enforcing is what it always was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.playbook import Playbook, a_call
from fumehood import wishes
from fumehood.canonical import JSON
from fumehood.errors import Denied, LedgerError, PdpError, Withheld
from fumehood.model import (
    Approve,
    Confine,
    Decision,
    Effect,
    Limit,
    Phase,
    Reason,
    Redact,
    Runs,
    Unknown,
    understood,
)
from fumehood.observe_mode import Observing, Would, acting, would
from fumehood.pdp.answer import decided
from fumehood.pdp.combine import combine
from fumehood.pdp.decision import decision_from

ITEMS: Mapping[str, list[JSON]] = {
    "deny": ["no", {"reason": "no", "detail": "x"}, {"oops": 1}],
    "approve": [{"reason": "look", "risk": "high"}, {"reason": 1}],
    "confine": ["python-offline", {"profile": "shell"}, 7],
    "limit": [{"key": "k", "max": 1, "per_s": 60}, {"key": "k", "max": -1, "per_s": 1}],
    "withhold": ["not for the agent"],
    "redact": [{"path": "/a"}, {"pattern": "x+"}, {"path": "a"}],
    "label": ["trusted", "untrusted", 3],
}


def _said(rule: str) -> st.SearchStrategy[list[list[JSON]]]:
    if rule == "permit":
        return st.sampled_from([[], [["boolean", True]], [["boolean", False]], [["string", "yes"]]])
    sets = st.lists(st.sampled_from(ITEMS[rule]), max_size=2).map(lambda items: [["set", items]])
    odd: st.SearchStrategy[list[list[JSON]]] = st.just([["array", []]])
    return st.one_of(st.just([]), sets, sets, odd)  # type: ignore[return-value]


def answers(rules: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    package = st.fixed_dictionaries({}, optional={rule: _said(rule) for rule in rules})
    return st.dictionaries(st.sampled_from("abc"), package, max_size=3)


CALLS = answers(("permit", "deny", "approve", "confine", "limit"))
RESULTS = answers(("withhold", "redact", "label"))
OBSERVED = st.one_of(
    st.just(Observing(is_whole=True)),
    st.frozensets(st.sampled_from("abc")).map(lambda names: Observing(names)),
)


def _decided(
    said: Mapping[str, Any], observing: Observing | None, phase: Phase = Phase.EXECUTE_TOOL
) -> Decision:
    """Decided however an index by tool splits it: what is a set, or true, may be said apart from the rest."""
    found = decided(phase, (said, []), revision="sha256:1", observing=observing)
    assert decided(phase, _apart(said), revision="sha256:1", observing=observing) == found
    return found


def _apart(said: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str, list[JSON]]]]:
    left: dict[str, Any] = {}
    more: list[tuple[str, str, list[JSON]]] = []
    for package, rules in said.items():
        for rule, found in rules.items():
            if found and found[0][0] == "set":
                more.append((package, rule, found[0][1]))
            elif found == [["boolean", True]]:
                more.append((package, rule, [True]))
            else:
                left.setdefault(package, {})[rule] = found
    return left, more


def _kinds(decision: Decision) -> set[type]:
    return {type(o) for o in decision.obligations}


@given(CALLS)
def test_enforcing_is_exactly_what_the_packages_say(said: dict[str, Any]) -> None:
    assert _decided(said, None) == decision_from(combine("execute_tool", said, revision="sha256:1"))
    assert _decided(said, None).observed is None


@given(CALLS, OBSERVED)
def test_what_everything_says_is_always_beside_the_decision(said: dict[str, Any], seen: Observing) -> None:
    assert _decided(said, seen).observed == _decided(said, None)


@given(CALLS, OBSERVED)
def test_only_policy_denials_asks_and_limits_are_skipped(said: dict[str, Any], seen: Observing) -> None:
    acted, full = _decided(said, seen), _decided(said, None)
    if not acted.is_permit:
        return
    if full.is_permit:
        kept = {o for o in full.obligations if isinstance(o, Confine | Redact | Unknown)}
        assert kept <= set(acted.obligations)
    for package in said:
        asked = _decided({package: {**said[package], "permit": [["boolean", True]], "deny": []}}, None)
        kept = {o for o in asked.obligations if isinstance(o, Confine | Unknown)}
        assert kept <= set(acted.obligations)


@given(CALLS, OBSERVED)
def test_nothing_nobody_understands_ever_runs(said: dict[str, Any], seen: Observing) -> None:
    if any(isinstance(o, Unknown) for o in _decided(said, None).obligations):
        assert not understood(_decided(said, seen)).is_permit


@given(CALLS, st.frozensets(st.sampled_from("abc")))
def test_observed_package_gives_nobody_anything(said: dict[str, Any], names: frozenset[str]) -> None:
    acted = _decided(said, Observing(names))
    rest = _decided({p: rules for p, rules in said.items() if p not in names}, None)
    assert acted.effect is rest.effect
    assert set(rest.obligations) <= set(acted.obligations)
    assert set(acted.reasons) == set(rest.reasons)


@given(CALLS)
def test_observing_everything_asks_and_counts_nothing(said: dict[str, Any]) -> None:
    acted = _decided(said, Observing(is_whole=True))
    assert acted.is_permit
    assert not _kinds(acted) & {Approve, Limit}


@given(RESULTS, OBSERVED)
def test_redactions_act_and_withholds_do_not(said: dict[str, Any], seen: Observing) -> None:
    acted, full = (_decided(said, s, Phase.RETURN_RESULT) for s in (seen, None))
    if seen.is_whole:
        assert acted.is_permit
    if full.is_permit and acted.is_permit:
        assert set(full.redactions) <= set(acted.redactions)
        assert set(acted.labels) <= set(full.labels)


@given(st.sampled_from(["permit_connect", "deny_connect", "approve_connect"]), OBSERVED)
def test_connections_from_inside_are_confinement_and_always_enforced(rule: str, seen: Observing) -> None:
    found: list[Any] = [["boolean", True]] if rule.startswith("permit") else [["set", ["no"]]]
    said = {"a": {rule: found}}
    assert _decided(said, seen, Phase.CONNECT) == _decided(said, None, Phase.CONNECT)


# --- in the flow: whatever stops an enforced call for a reason that is not policy stops an observed one

WATCHED = Decision(Effect.DENY, (Reason("denied_by_policy", "no"),), revision="sha256:1")
BREAKS: Mapping[type, Any] = {
    wishes.Bind: RuntimeError("x"),
    wishes.Earlier: LedgerError("x"),
    wishes.Assemble: PdpError("x", code="pdp_input_too_large"),
    wishes.Evaluate: PdpError("x", code="pdp_crashed"),
    wishes.Record: LedgerError("x"),
    wishes.Claim: wishes.Claimed(False, "open", "now"),
}
STOPPED = Decision.deny("stopped", "stopped")


def _observed(full: Decision, *kept: Confine | Redact | Unknown) -> Decision:
    return acting(full, Decision(Effect.PERMIT), Decision(Effect.PERMIT, obligations=kept))


def test_denied_call_runs_where_its_policy_is_only_observed() -> None:
    book = Playbook(replies={wishes.Evaluate: _observed(WATCHED)})
    assert book.play() == "result"
    assert book.last(wishes.Record).decision.observed == WATCHED


@pytest.mark.parametrize("broken", BREAKS, ids=lambda kind: kind.__name__)
def test_what_breaks_stops_an_observed_call(broken: type) -> None:
    book = Playbook(replies={wishes.Evaluate: _observed(WATCHED), broken: BREAKS[broken]})
    with pytest.raises(Denied):
        book.play()
    assert not book.ran


def test_operators_stop_stops_an_observed_call() -> None:
    book = Playbook(replies={wishes.Evaluate: _observed(WATCHED), wishes.Record: STOPPED})
    with pytest.raises(Denied) as denied:
        book.play()
    assert denied.value.code == "stopped" and not book.ran


def test_tool_that_cannot_be_confined_is_refused_though_observed() -> None:
    book = Playbook(replies={wishes.Evaluate: _observed(WATCHED, Confine("python-offline"))})
    with pytest.raises(Denied) as denied:
        book.play()
    assert denied.value.code == "cannot_confine" and not book.ran


def test_observed_call_runs_confined_as_its_policy_says() -> None:
    book = Playbook(
        a_call(runs=Runs.CONFINED), {wishes.Evaluate: _observed(WATCHED, Confine("python-offline"))}
    )
    book.play()
    assert [c.profile for c in book.last(wishes.Run).confinements] == ["python-offline"]


def test_result_that_would_be_withheld_is_shown_redacted_and_recorded() -> None:
    result = {wishes.AssembleResult: object(), wishes.View: {"a": "secret"}}
    shown = _observed(WATCHED, Redact(path="/a"))
    book = Playbook(replies={**result, wishes.Evaluate: [_observed(WATCHED), shown]})
    assert book.play() == {"a": "[redacted]"}
    assert book.last(wishes.Finish).observed == WATCHED


def test_result_that_the_engine_cannot_judge_is_withheld_though_observed() -> None:
    replies = {
        wishes.AssembleResult: object(),
        wishes.Evaluate: [_observed(WATCHED), PdpError("x", code="pdp_error")],
    }
    with pytest.raises(Withheld):
        Playbook(replies=replies).play()


def test_it_is_said_what_would_have_been() -> None:
    permit, ask = Decision(Effect.PERMIT), Decision(Effect.PERMIT, obligations=(Approve("look"),))
    full = Decision(Effect.DENY, (Reason("limit_exceeded", "often"),))
    assert would(permit, WATCHED) is Would.DENY
    assert would(permit, WATCHED, is_result=True) is Would.WITHHOLD
    assert would(permit, full) is Would.LIMIT
    assert would(permit, ask) is Would.ASK
    assert would(ask, ask) is None  # it was asked: another package does enforce it
    assert would(WATCHED, WATCHED) is None  # it was stopped
