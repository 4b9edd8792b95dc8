"""Values to rows and back. Writing is redacted here; JSON in rows is compact UTF-8."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import cast

from fumehood.approval import Approval, State
from fumehood.canonical import JSON
from fumehood.ledger import names
from fumehood.ledger.protocol import Event, Stop, StopScope
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
    Session,
    ToolCall,
    ToolDefinition,
    Unknown,
)
from fumehood.observe_mode import would
from fumehood.redaction import redacted_json, redacted_text

__all__ = [
    "APPROVAL_COLUMNS",
    "EVENT_COLUMNS",
    "NewEvent",
    "approval_from",
    "approval_row",
    "call_attributes",
    "decision_json",
    "dumps",
    "event_from",
    "judged_json",
    "observed_json",
    "observed_summary",
    "reason_json",
    "session_attributes",
    "stop_from",
    "stored",
]

dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

EVENT_COLUMNS = "seq, at, kind, session_id, agent, tool, attempt_id, effect, summary, attributes"
APPROVAL_COLUMNS = (
    "id, revision, state, session_id, attempt_id, agent, user, tool, definition_digest, call_id, digest, "
    "args, injected, reasons, policy_revision, rules, created_at, expires_at, lease, waiter_pid, "
    "waiter_start, decided_by, decided_at, note"
)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event before it has its number."""

    at: float
    kind: str
    session_id: str
    agent: str
    tool: str = ""
    attempt_id: str = ""
    effect: str = ""
    summary: str = ""
    attributes: str = "{}"
    labels: str | None = None
    agent_n: int | None = None


def stored(event: NewEvent, db: sqlite3.Connection, writer: int) -> int:
    """Insert *event*; its number."""
    cursor = db.execute(
        "INSERT INTO events (at, kind, session_id, agent, tool, attempt_id, effect, summary, attributes, "
        "labels, agent_n, writer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            event.at,
            event.kind,
            event.session_id,
            event.agent,
            event.tool,
            event.attempt_id,
            event.effect,
            event.summary,
            event.attributes,
            event.labels,
            event.agent_n,
            writer,
        ),
    )
    return cast("int", cursor.lastrowid)


def event_from(row: tuple[object, ...]) -> Event:
    """An event from its EVENT_COLUMNS."""
    return Event(*row[:-1], cast("str", row[-1]).encode())  # type: ignore[arg-type,call-arg]


def stop_from(row: tuple[object, ...]) -> Stop:
    """A stop from (seq, scope, value, by, reason, at, lifted_at)."""
    return Stop(row[0], StopScope(cast("str", row[1])), *row[2:])  # type: ignore[arg-type]


def call_attributes(call: ToolCall, *, args: bytes | None = None) -> str:
    """The attributes that say which call an event is about, as the inside of a JSON object."""
    inside = f'{_lasting(call.tool, call.session)},"{names.ARGS_DIGEST}":"{call.digest}"'
    own: dict[str, JSON] = {names.CALL_ID: call.call_id, names.PARENT_ATTEMPT: call.parent_attempt_id}
    said = {name: value for name, value in own.items() if value is not None}
    if said:
        inside += "," + dumps(said)[1:-1]
    return inside if args is None else f'{inside},"{names.CALL_ARGUMENTS}":{args.decode()}'


@lru_cache(maxsize=1024)
def _lasting(tool: ToolDefinition, session: Session) -> str:
    """The attributes that are the same for every call of a tool in a session."""
    said: dict[str, JSON] = {
        names.OPERATION: "execute_tool",
        names.TOOL_NAME: tool.name,
        names.AGENT_ID: session.subject.id,
        names.DEFINITION_DIGEST: tool.digest,
        names.RUNS: tool.runs.value,
    }
    optional: dict[str, JSON] = {
        names.CONVERSATION_ID: session.conversation_id,
        names.USER: session.subject.user,
        names.KIND: tool.annotations.kind,
    }
    return dumps(said | {name: value for name, value in optional.items() if value is not None})[1:-1]


def decision_json(decision: Decision) -> str:
    """What a decision says, as the inside of a JSON object."""
    said = _decision_json(decision)
    if not decision.decision_id:
        return said
    return f"{said},{dumps({names.POLICY_DECISION_ID: decision.decision_id})[1:-1]}"


@lru_cache(maxsize=256)
def _decision_json(decision: Decision) -> str:
    """What equal decisions have in common: not their ids."""
    return dumps(
        {
            names.EFFECT: decision.effect.value,
            names.REASONS: [reason_json(r) for r in decision.reasons],
            names.OBLIGATIONS: [_obligation_json(o) for o in decision.obligations],
            names.RULES: list(decision.rules),
            names.POLICY_REVISION: decision.revision,
        }
    )[1:-1]


def judged_json(decision: Decision, at: float) -> str:
    """What was decided about a result, as the last of an outcome's attributes."""
    if decision == _UNASKED:
        return f'"{names.JUDGED}":null'
    return f'"{names.JUDGED_AT}":{at!r},"{names.JUDGED}":{{{decision_json(decision)}}}'


def observed_json(acted: Decision, full: Decision, *, is_result: bool = False) -> str:
    """What was decided where a guard only watches, as the inside of a JSON object."""
    return f'"{names.OBSERVED}":{{"would":{_would_json(acted, full, is_result)},{decision_json(full)}}}'


@lru_cache(maxsize=256)
def _would_json(acted: Decision, full: Decision, is_result: bool) -> str:
    return dumps(would(acted, full, is_result=is_result))


def observed_summary(acted: Decision, full: Decision, *, is_result: bool = False) -> str:
    """The line of the trace for what went on because nobody enforces."""
    meant = would(acted, full, is_result=is_result)
    if meant is None:
        return "OBSERVED: permit"
    words = full.explain() if not full.is_permit else "; ".join(a.reason for a in full.approvals)
    return redacted_text(f"OBSERVED, not enforced: {meant.value}: {words}")


def reason_json(reason: Reason) -> JSON:
    """A reason with its detail: for the record, never for the agent."""
    return _fields(reason)


def approval_row(approval: Approval) -> tuple[object, ...]:
    """An approval as its APPROVAL_COLUMNS, redacted."""
    return (
        approval.id,
        approval.revision,
        approval.state.value,
        approval.session_id,
        approval.attempt_id,
        approval.agent,
        approval.user,
        approval.tool,
        approval.definition_digest,
        approval.call_id,
        approval.digest,
        redacted_json(approval.args),
        dumps(list(approval.injected)),
        dumps([_fields(r) for r in approval.reasons]),
        approval.policy_revision,
        dumps(list(approval.rules)),
        approval.created_at,
        approval.expires_at,
        approval.lease,
        *approval.waiter,
        approval.decided_by,
        approval.decided_at,
        approval.note,
    )


def approval_from(row: tuple[object, ...]) -> Approval:
    """An approval from its APPROVAL_COLUMNS."""
    given = dict(zip((n.strip() for n in APPROVAL_COLUMNS.split(",")), row, strict=True))
    pid, start = cast("int", given.pop("waiter_pid")), cast("int", given.pop("waiter_start"))
    given["state"] = State(cast("str", given["state"]))
    given["injected"] = tuple(json.loads(cast("str", given["injected"])))
    given["rules"] = tuple(json.loads(cast("str", given["rules"])))
    given["reasons"] = tuple(_approve_from(r) for r in json.loads(cast("str", given["reasons"])))
    return Approval(waiter=(pid, start), **given)  # type: ignore[arg-type]


def _approve_from(said: Mapping[str, object]) -> Approve:
    given = dict(said)
    given["risk"] = Risk(cast("str", given.get("risk", Risk.MEDIUM)))
    given["controls"] = tuple(cast("list[str]", given.get("controls", [])))
    return Approve(**given)  # type: ignore[arg-type]


def _obligation_json(obligation: Obligation) -> JSON:
    return {"type": _TYPES[type(obligation)], **cast("dict[str, JSON]", _fields(obligation))}


_UNASKED = Decision(Effect.PERMIT)
_TYPES: dict[type, str] = {
    Approve: "approve",
    Confine: "confine",
    Limit: "limit",
    Redact: "redact",
    Label: "label",
    Unknown: "unknown",
}


def _fields(value: Reason | Obligation) -> JSON:
    """The fields that say something; texts without credentials."""
    said: dict[str, JSON] = {}
    for field in fields(value):
        content = getattr(value, field.name)
        if content is None or content == () or content is False:
            continue
        said[field.name] = redacted_text(str(content)) if isinstance(content, str) else _listed(content)
    return said


def _listed(content: object) -> JSON:
    if isinstance(content, tuple):
        return [_listed(item) for item in content]
    return cast("JSON", content)


def session_attributes(session: Session, prompt: str | None) -> str:
    """What the trace says of a session."""
    said: dict[str, JSON] = {names.AGENT_ID: session.subject.id, names.IS_IMPLICIT: session.is_implicit}
    optional = {names.USER: session.subject.user, names.CONVERSATION_ID: session.conversation_id}
    said.update((name, value) for name, value in optional.items() if value is not None)
    if prompt is not None:
        said[names.PROMPT] = prompt
    return dumps(said)
