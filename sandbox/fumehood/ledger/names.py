"""The names of attributes in trace events. They stand here and nowhere else.

OpenTelemetry's semantic conventions for generative AI (`execute_tool` spans) where a name exists,
ours under `fumehood.` where none does.
"""

from __future__ import annotations

__all__ = [
    "AGENT_ID",
    "APPROVAL_BY",
    "APPROVAL_EXPIRES",
    "APPROVAL_ID",
    "APPROVAL_NOTE",
    "APPROVAL_REASONS",
    "APPROVAL_STATE",
    "ARGS_DIGEST",
    "CALL_ARGUMENTS",
    "CALL_ID",
    "CLAIM_STATE",
    "CONTROLS",
    "CONVERSATION_ID",
    "DEFINITION_DIGEST",
    "DETAIL",
    "DURATION_S",
    "EFFECT",
    "ERROR_TYPE",
    "IS_IMPLICIT",
    "JUDGED",
    "JUDGED_AT",
    "KIND",
    "LABELS",
    "OBLIGATIONS",
    "OBSERVED",
    "OPERATION",
    "PARENT_ATTEMPT",
    "POLICY_DECISION_ID",
    "POLICY_REVISION",
    "PROMPT",
    "REASONS",
    "RESULT",
    "RULES",
    "RUNS",
    "STOP_BY",
    "STOP_IS_LIFTED",
    "STOP_REASON",
    "STOP_SCOPE",
    "STOP_VALUE",
    "TOOL_NAME",
    "USER",
    "WITHHELD",
]

OPERATION = "gen_ai.operation.name"
TOOL_NAME = "gen_ai.tool.name"
CALL_ID = "gen_ai.tool.call.id"
CALL_ARGUMENTS = "gen_ai.tool.call.arguments"
RESULT = "gen_ai.tool.call.result"
AGENT_ID = "gen_ai.agent.id"
CONVERSATION_ID = "gen_ai.conversation.id"
ERROR_TYPE = "error.type"

APPROVAL_BY = "fumehood.approval.by"
APPROVAL_EXPIRES = "fumehood.approval.expires_at"
APPROVAL_ID = "fumehood.approval.id"
APPROVAL_NOTE = "fumehood.approval.note"
APPROVAL_REASONS = "fumehood.approval.reasons"
APPROVAL_STATE = "fumehood.approval.state"
ARGS_DIGEST = "fumehood.args.digest"
CLAIM_STATE = "fumehood.claim.state"
CONTROLS = "fumehood.controls"
DEFINITION_DIGEST = "fumehood.tool.definition_digest"
DETAIL = "fumehood.detail"
DURATION_S = "fumehood.duration_s"
EFFECT = "fumehood.effect"
IS_IMPLICIT = "fumehood.session.is_implicit"
JUDGED = "fumehood.result.decision"  # what policies said of a result; null: no rule could apply
JUDGED_AT = "fumehood.result.decided_at"
KIND = "fumehood.tool.kind"
LABELS = "fumehood.labels"
OBLIGATIONS = "fumehood.obligations"
OBSERVED = "fumehood.observed"  # what was decided, where the guard only watched: {would, effect, …}
PARENT_ATTEMPT = "fumehood.parent_attempt_id"
POLICY_DECISION_ID = "fumehood.policy.decision_id"
POLICY_REVISION = "fumehood.policy.revision"
PROMPT = "fumehood.session.prompt"
REASONS = "fumehood.reasons"
RULES = "fumehood.rules"
RUNS = "fumehood.tool.runs"
STOP_BY = "fumehood.stop.by"
STOP_IS_LIFTED = "fumehood.stop.is_lifted"
STOP_REASON = "fumehood.stop.reason"
STOP_SCOPE = "fumehood.stop.scope"
STOP_VALUE = "fumehood.stop.value"
USER = "fumehood.user"
WITHHELD = "fumehood.withheld"
