"""Recorded calls, decided again: is what was decided then wider, tighter or the same now?

A recorded decision has its policy input beside it, with the time of then in it, and a policy that passes
the gate can read no clock and no dice: so the same policies decide the same again. What cannot be told
is said to be so: a rule may read what was redacted before it was written, limits are counted by the guard
and not by the policies, and what was stopped by an operator was never up to them.
"""

from __future__ import annotations

import json
import marshal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from fumehood.canonical import JSON
from fumehood.errors import LedgerError, PdpError
from fumehood.ledger import Event, names
from fumehood.ledger.protocol import ClaimState
from fumehood.ledger.rows import decision_json
from fumehood.model import Decision, Effect, Pdp, Phase, PolicyInput, Reason, understood
from fumehood.redaction import MARK
from fumehood.workbench.projection import Kept, Projection, is_plain
from fumehood.workbench.reads import Path, Reads, missing_in, pointer_of
from fumehood.workbench.recorded_results import is_unasked, recorded_result

__all__ = ["Answer", "Change", "Difference", "Level", "Replayer", "answer_of", "compare"]

_MARK = MARK.encode()
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, OSError)
_LIMIT, _STOP = "limit_exceeded", "stopped"
_SAID = (names.EFFECT, names.REASONS, names.OBLIGATIONS, names.RULES, names.POLICY_REVISION)
_KEPT = 10_000  # answers, each with a key of 4 KiB at most


class Level(StrEnum):
    """How far a call gets by itself."""

    DENY = "deny"
    ASK = "ask"
    PERMIT = "permit"


class Change(StrEnum):
    WIDENED = "widened"
    TIGHTENED = "tightened"
    OBLIGATIONS = "obligations"  # the same level, with other limits, confinement, redaction or questions
    SAME = "same"
    UNSURE = "cannot tell"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was decided: `reasons` are codes and texts, `obligations` JSON without the rule that asked."""

    level: Level
    codes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    obligations: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    revision: str = ""

    @property
    def has_limits(self) -> bool:
        """True if the guard would count this call."""
        return any('"type":"limit"' in o for o in self.obligations)


@dataclass(frozen=True, slots=True)
class Difference:
    """One call, or result, that was decided again. `why` says what cannot be told, or in what the
    obligations differ."""

    seq: int
    tool: str
    agent: str
    change: Change
    before: Answer
    after: Answer
    why: str = ""
    is_result: bool = False

    @property
    def is_permitted(self) -> bool:
        """True if what was denied or asked would now run by itself, or what was withheld be released."""
        return self.change is Change.WIDENED and self.after.level is Level.PERMIT


_RELEASED = Answer(Level.PERMIT)  # no rule could apply
_RANK = {Level.DENY: 0, Level.ASK: 1, Level.PERMIT: 2}
_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def answer_of(said: Mapping[str, Any]) -> Answer:
    """The answer in a trace event's attributes, or in what a decision is written as."""
    reasons, obligations = said[names.REASONS], said[names.OBLIGATIONS]
    is_permit = said[names.EFFECT] == Effect.PERMIT.value
    asks = any(o.get("type") == "approve" for o in obligations)
    return Answer(
        (Level.ASK if asks else Level.PERMIT) if is_permit else Level.DENY,
        tuple(r["code"] for r in reasons),
        tuple(r["text"] for r in reasons),
        tuple(sorted({_encode({k: v for k, v in o.items() if k != "rule"}) for o in obligations})),
        tuple(said[names.RULES]),
        said[names.POLICY_REVISION],
    )


def compare(before: Answer, after: Answer, unknown: frozenset[Path] = frozenset()) -> tuple[Change, str]:
    """How *after* differs from *before*, where *unknown* parts of the input may matter; and why not told."""
    is_up_to_guard = bool({_STOP, _LIMIT} & set(before.codes))
    if before.revision == after.revision and (unknown or is_up_to_guard):
        return Change.SAME, ""  # the same policies say the same of the same input
    if unknown:
        return (
            Change.UNSURE,
            f"a rule may read {', '.join(sorted(map(pointer_of, unknown)))}, not recorded whole",
        )
    if after.level is Level.DENY and before.level is Level.DENY:
        return Change.SAME, ""
    if _STOP in before.codes:
        return Change.UNSURE, "an operator had stopped the run; what the policies said is not recorded"
    if _LIMIT in before.codes and after.has_limits:
        return Change.UNSURE, "a limit was reached then; limits are counted by the guard, not by the policies"
    if _RANK[after.level] != _RANK[before.level]:
        is_wider = _RANK[after.level] > _RANK[before.level]
        return (Change.WIDENED if is_wider else Change.TIGHTENED), ""
    if after.obligations == before.obligations:
        return Change.SAME, ""
    gone = [o for o in before.obligations if o not in after.obligations]
    new = [o for o in after.obligations if o not in before.obligations]
    return Change.OBLIGATIONS, "; ".join([*(f"no longer {o}" for o in gone), *(f"now {o}" for o in new)])


@lru_cache(maxsize=4096)
def _answer(decision: Decision) -> Answer:
    return answer_of(json.loads(f"{{{decision_json(decision)}}}"))


@contextmanager
def _readable(event: Event, what: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        text = f"event {event.seq} holds no {what} that can be read: {type(error).__name__}: {error}"
        raise LedgerError(text, code="ledger_corrupt") from error


class Replayer:
    """Decides recorded calls again. For one thread.

    An input is decided once: those that differ only in what no rule can read are decided alike
    (*is_each* True: each is asked about all the same).
    """

    def __init__(self, pdp: Pdp, reads: Reads, *, is_each: bool = False) -> None:
        self._pdp = pdp
        self._reads = reads
        self._is_each = is_each
        self._projection = lru_cache(maxsize=4096)(self._projected)
        self._before: Kept[Answer] = Kept(_KEPT)
        self._after: Kept[Answer] = Kept(_KEPT)

    def decide(self, event: Event, document: bytes) -> Difference | None:
        """The call of a recorded decision, decided anew; None for a second decision about the same call.

        Raises:
            LedgerError: what is recorded is no decision.
        """
        with _readable(event, "decision"):
            return self._difference(event, document)

    def _difference(self, event: Event, document: bytes) -> Difference | None:
        before = self._said(json.loads(event.attributes))
        if before.codes == ("decision_changed",):
            return None
        content = json.loads(document)
        asked = PolicyInput(Phase(content["action"]["name"]), event.tool, document)
        after = self._decided(asked, content)
        unknown = self._unknown(asked, content)
        change, why = compare(before, after, unknown)
        return Difference(event.seq, event.tool, event.agent, change, before, after, why)

    def result(self, event: Event, document: bytes) -> Difference | None:
        """The result of an outcome, decided anew; None if it was never decided about. *document* is the
        policy input of its call.

        Raises:
            LedgerError: what is recorded is no outcome.
        """
        with _readable(event, "outcome"):
            return self._result(event, document)

    def _result(self, event: Event, document: bytes) -> Difference | None:
        facts = self._pdp.facts
        after = Answer(Level.PERMIT, revision=facts.revision)
        if is_unasked(event) and not facts.has_result_rules:
            return Difference(
                event.seq, event.tool, event.agent, Change.SAME, _RELEASED, after, is_result=True
            )
        said = json.loads(event.attributes)
        found = recorded_result(said, document)
        if found is None:
            is_old = said[names.CLAIM_STATE] == ClaimState.DONE.value and facts.has_result_rules
            return _unsure(event, after) if is_old else None
        before = self._said(found.said) if found.said is not None else _RELEASED
        unknown: frozenset[Path] = frozenset()
        if facts.has_result_rules:
            asked = PolicyInput(Phase.RETURN_RESULT, event.tool, found.body)
            missing = found.missing | missing_in(found.content, is_marked=_MARK in asked.body)
            unknown = self._reads.may_matter(asked.phase, asked.tool, missing)
            after = self._decided(asked, found.content)
        change, why = compare(before, after, unknown)
        return Difference(event.seq, event.tool, event.agent, change, before, after, why, is_result=True)

    def _said(self, attributes: Mapping[str, Any]) -> Answer:
        """What was decided then; of one that was only observed, what all policies said."""
        said = attributes.get(names.OBSERVED) or attributes
        key = marshal.dumps([said[name] for name in _SAID], 2)
        return self._before.get(key) or self._before.put(key, answer_of(said))

    def _unknown(self, asked: PolicyInput, content: JSON) -> frozenset[Path]:
        """What is not recorded of *content* and may matter."""
        projection = self._projection(asked.phase, asked.tool)
        is_marked, with_forms = _MARK in asked.body, projection.has_forms
        missing = missing_in(content, is_marked=is_marked, with_forms=with_forms)
        return self._reads.may_matter(asked.phase, asked.tool, missing) if missing else missing

    def _projected(self, phase: Phase, tool: str) -> Projection:
        return Projection(self._reads.paths(phase, tool))

    def _decided(self, asked: PolicyInput, content: Any) -> Answer:
        if self._is_each or content["resource"]["id"] != asked.tool or not is_plain(asked.body, content):
            return _answer(self._asked(asked, content))
        key = self._projection(asked.phase, asked.tool).key(content)
        if key is None:
            return _answer(self._asked(asked, content))
        key = asked.phase.value.encode() + key
        return self._after.get(key) or self._after.put(key, _answer(self._asked(asked, content)))

    def _asked(self, asked: PolicyInput, content: Any) -> Decision:
        """As the flow does: errors are denials, and what cannot be confined is one, too."""
        try:
            decision = understood(self._pdp.evaluate(asked))
        except PdpError as error:
            revision = self._pdp.facts.revision
            return Decision.deny(error.code, "the policy engine gave no usable answer", revision=revision)
        if decision.confinements and not _is_confined(content):
            reason = Reason("cannot_confine", "this tool runs in the agent's own process")
            return decision.refused(reason)
        return decision


def _unsure(event: Event, after: Answer) -> Difference:
    why = "what was decided about this result was not recorded then"
    return Difference(
        event.seq, event.tool, event.agent, Change.UNSURE, _RELEASED, after, why, is_result=True
    )


def _is_confined(content: Any) -> bool:
    runs = content.get("resource", {}).get("properties", {}).get("runs")
    return bool(runs == "confined")
