"""Sessions, calls and requests as the ledger's tests use them."""

from __future__ import annotations

import secrets
import time

from fumehood.approval import Approval, Move, State, Verdict
from fumehood.binding import bind_plain, define, make_call
from fumehood.ledger import Ledger, this_process
from fumehood.model import Approve, Decision, Effect, Limit, Obligation, Risk, Session, Subject, ToolCall

SESSION = Session("s1", Subject("bot", "alice", ("support",)), prompt="look at ticket 881")
PERMIT = Decision(Effect.PERMIT, revision="sha256:r", rules=("policies.refunds.permit",))
DOCUMENT = b'{"action":{"name":"execute_tool"}}'


def a_call(
    args: dict[str, object] | None = None,
    *,
    tool: str = "issue_refund",
    call_id: str | None = "c1",
    session: Session = SESSION,
    **annotations: object,
) -> ToolCall:
    definition = define(tool, annotations={"kind": "money", **annotations})
    return make_call(definition, session, bind_plain(args or {"amount_usd": 500}), call_id=call_id)


def permit(*obligations: Obligation) -> Decision:
    return Decision(Effect.PERMIT, obligations=obligations, revision="sha256:r", rules=("policies.p.permit",))


def limited(key: str = "k", max: float = 3, per_s: float = 60, cost: float = 1) -> Decision:
    return permit(Limit(key, max, per_s, cost))


def request(ledger: Ledger, call: ToolCall | None = None, **changes: object) -> Approval:
    call = call or a_call()
    said: dict[str, object] = {
        "id": secrets.token_hex(6),
        "revision": 1,
        "state": State.PENDING,
        "session_id": call.session.id,
        "attempt_id": call.attempt_id,
        "agent": call.session.subject.id,
        "user": call.session.subject.user,
        "tool": call.tool.name,
        "definition_digest": call.tool.digest,
        "call_id": call.call_id,
        "digest": call.digest,
        "args": call.args,
        "injected": (),
        "reasons": (Approve("the amount is not known to come from the user", Risk.MEDIUM),),
        "policy_revision": "sha256:r",
        "rules": ("policies.refunds.approve",),
        "created_at": time.time(),
        "expires_at": time.time() + 300,
        "lease": ledger.lease,
        "waiter": this_process(),
    }
    return Approval(**{**said, **changes})  # type: ignore[arg-type]


def verdict(approval: Approval, move: Move = Move.APPROVE, **changes: object) -> Verdict:
    said: dict[str, object] = {"revision": approval.revision, "digest": approval.digest, "by": "olga"}
    return Verdict(approval.id, move=move, **{**said, **changes})  # type: ignore[arg-type]


def asked(ledger: Ledger, call: ToolCall | None = None, **changes: object) -> Approval:
    approval = request(ledger, call, **changes)
    ledger.ask(approval)
    return approval
