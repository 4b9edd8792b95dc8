"""Plays a flow against scripted replies: each wish that the flow makes is listed, nothing is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fumehood import flow, wishes
from fumehood.approval import Approval, State
from fumehood.binding import Bound, define, make_call
from fumehood.model import (
    Annotations,
    Approve,
    Confine,
    Decision,
    Effect,
    Kind,
    Phase,
    PolicyInput,
    Reason,
    Runs,
    Session,
    Subject,
    ToolCall,
)

PERMIT = Decision(Effect.PERMIT, revision="sha256:1")
REFUSE = Decision(Effect.DENY, (Reason("denied_by_policy", "no"),), revision="sha256:1")
ASK = Decision(Effect.PERMIT, obligations=(Approve("look"),), revision="sha256:1")
CONFINE = Decision(Effect.PERMIT, obligations=(Confine("strictest"),), revision="sha256:1")


def a_call(kind: Kind | None = Kind.MONEY, runs: Runs = Runs.IN_PROCESS) -> ToolCall:
    tool = define("pay", schema={"properties": {"n": {}}}, annotations=Annotations(kind=kind), runs=runs)
    return make_call(tool, Session("s", Subject("bot")), Bound(b'{"n":1}', None), call_id="c1")


@dataclass
class Playbook:
    """Answers wishes by type: with a value, an exception, a callable, or a list of those in turn."""

    call: ToolCall = field(default_factory=a_call)
    replies: dict[type, Any] = field(default_factory=dict)
    seen: list[wishes.Wish[Any]] = field(default_factory=list)

    def perform(self, wish: wishes.Wish[Any]) -> Any:
        self.seen.append(wish)
        reply = self.replies.get(type(wish), self._usual(wish))
        if isinstance(reply, list):
            reply = reply.pop(0)
        if callable(reply) and not isinstance(reply, type):
            reply = reply(wish)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    async def aperform(self, wish: wishes.Wish[Any]) -> Any:
        return self.perform(wish)

    def play(self) -> Any:
        return flow.drive(flow.enforce(), self)

    async def aplay(self) -> Any:
        return await flow.adrive(flow.enforce(), self)

    @property
    def names(self) -> list[str]:
        return [type(w).__name__ for w in self.seen]

    @property
    def ran(self) -> bool:
        return "Run" in self.names

    def last(self, kind: type) -> Any:
        return [w for w in self.seen if isinstance(w, kind)][-1]

    def _usual(self, wish: wishes.Wish[Any]) -> Any:
        usual: dict[type, Callable[[Any], Any]] = {
            wishes.Bind: lambda w: (self.call, Bound(self.call.args, None)),
            wishes.Earlier: lambda w: None,
            wishes.Assemble: lambda w: PolicyInput(Phase.EXECUTE_TOOL, "pay", b"{}"),
            wishes.AssembleResult: lambda w: None,
            wishes.Evaluate: lambda w: PERMIT,
            wishes.Record: lambda w: w.decision,
            wishes.Ask: lambda w: approval(State.APPROVED),
            wishes.Drop: lambda w: None,
            wishes.Claim: lambda w: wishes.Claimed(True, "open", "now"),
            wishes.Run: lambda w: "result",
            wishes.View: lambda w: str(w.result),
            wishes.Rebuild: lambda w: w.view,
            wishes.Replay: lambda w: ("replayed", w.view),
            wishes.IsInterrupt: lambda w: False,
            wishes.Finish: lambda w: None,
        }
        return usual[type(wish)](wish)


def approval(state: State, note: str | None = None) -> Approval:
    return Approval(
        id="7f3a",
        revision=1,
        state=state,
        session_id="s",
        attempt_id="a",
        agent="bot",
        user=None,
        tool="pay",
        definition_digest="d",
        call_id="c1",
        digest="x",
        args=b"{}",
        injected=(),
        reasons=(Approve("look"),),
        policy_revision="sha256:1",
        rules=(),
        created_at=0.0,
        expires_at=1.0,
        lease="l",
        waiter=(1, 1),
        note=note,
    )
