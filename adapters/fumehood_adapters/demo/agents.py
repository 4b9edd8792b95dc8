"""Plays the stories: real `create_agent` loops with a scripted model, each under a guard of its own.

Run as a child process, so that whoever decides is not the one who waits. Its argument is a JSON object,
the fields of `Stage`. It tells on stdout what begins and ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool, tool
from pydantic import BaseModel, Field

from fumehood import Guard
from fumehood.approval import Approval
from fumehood_adapters.demo.children import hold_leash, tell
from fumehood_adapters.demo.payload import LOADER
from fumehood_adapters.demo.stories import BATCH, ROWS, TICKET, Story, story
from fumehood_adapters.langchain import ConfinedTool, GuardMiddleware, guard_tools
from fumehood_adapters.scripted import ScriptedChatModel, calls, say

__all__ = ["Stage", "main", "play"]


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the stories are played. `policies` are loaded beside each story's pack."""

    ledger: str
    effects: str
    models: str
    tier: Literal["full", "no-userns"]
    stories: tuple[str, ...]
    suffix: str = ""
    policies: tuple[str, ...] = ()
    delay_s: float = 0.0


def main() -> None:
    hold_leash()
    stage = Stage(**{**(given := json.loads(sys.argv[1])), **{k: tuple(given[k]) for k in _LISTS}})
    tell("ready")
    time.sleep(stage.delay_s)
    for name in stage.stories:
        play(story(name), stage)
    tell("over")


_LISTS = ("stories", "policies")


def play(told: Story, stage: Stage) -> None:
    """One story: a guard, an agent and a session of its own."""
    prompt = told.prompt.format(models=stage.models)
    guard = Guard(told.pack, *stage.policies, ledger=stage.ledger, tier=stage.tier, on_pending=_waits)
    with closing(guard):
        tools, script = _CASTS[told.name](guard, stage)
        agent = create_agent(ScriptedChatModel(script), tools, middleware=[GuardMiddleware(guard)])
        with guard.session(agent=told.agent + stage.suffix, user=told.user, prompt=prompt) as session:
            tell("begin", story=told.name, session=session.id)
            agent.invoke({"messages": [{"role": "user", "content": prompt}]})
        guard.ledger.flush()
    tell("end", story=told.name)


def _waits(approval: Approval) -> None:
    why = "; ".join(reason.reason for reason in approval.reasons)
    args = json.loads(approval.args)
    tell("waits", id=approval.id, tool=approval.tool, args=args, risk=approval.risk.value, why=why)


def _leave(stage: Stage, told: str, done: str, **what: Any) -> None:
    """A side effect: one line in a file that the demo reads afterwards."""
    line = json.dumps({"story": told, "tool": done, **what}) + "\n"
    fd = os.open(stage.effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


# --- the casts: tools, and what the model says ---------------------------------------------------------

Cast = tuple[Sequence[BaseTool], list[AIMessage]]


def _refund(guard: Guard, stage: Stage) -> Cast:
    @tool
    def read_ticket(ticket_id: int) -> str:
        """Read a support ticket."""
        return TICKET

    @tool
    def issue_refund(order_id: str, amount_usd: float) -> str:
        """Pay money back for an order."""
        _leave(stage, "refund", "issue_refund", order_id=order_id, amount_usd=amount_usd)
        return f"refunded ${amount_usd:g} for order {order_id}"

    annotations = {
        "read_ticket": {"kind": "read", "object": ["ticket_id"]},
        "issue_refund": {"kind": "money", "target": ["order_id"]},
    }
    refund = partial(calls, "issue_refund", order_id="A-1")
    script = [
        calls("read_ticket", call_id="call-1", ticket_id=881),
        refund(call_id="call-2", amount_usd=500),
        refund(call_id="call-3", amount_usd=881),
        refund(call_id="call-4", amount_usd=40),
        say("I refunded $40 for order A-1."),
    ]
    return guard_tools([read_ticket, issue_refund], guard, annotations=annotations), script


class _ModelPath(BaseModel):
    """The arguments of load_model."""

    path: str = Field(description="Where the model file lies.")


def _model_file(guard: Guard, stage: Stage) -> Cast:
    load_model = ConfinedTool(
        guard,
        name="load_model",
        description="Load a pickled model and say what it holds.",
        args_schema=_ModelPath,
        source=LOADER,
        profile="model-loader",
        read=[stage.models],
        annotations={"kind": "execute", "object": ["path"]},
    )
    path = str(Path(stage.models) / "sentiment.pkl")
    return [load_model], [calls("load_model", path=path), say("It is a dict with labels and weights.")]


def _drain(guard: Guard, stage: Stage) -> Cast:
    @tool
    def score(features: list[float]) -> float:
        """Score one customer."""
        _leave(stage, "drain", "score")
        return round(0.9 - 0.004 * features[0] - 0.1 * features[1], 3)

    return guard_tools([score], guard, annotations={"score": {"kind": "fetch"}}), [*_grid(), say("Done.")]


def _grid() -> list[AIMessage]:
    """One feature moved at a time, a few rows in each turn: the pattern of a copy being made."""
    rows = [
        {"name": "score", "args": {"features": [20 + 10 * (n % 5), n // 5, 1]}, "id": f"row-{n}"}
        for n in range(ROWS)
    ]
    turns = [rows[at : at + BATCH] for at in range(0, ROWS, BATCH)]
    return [AIMessage("", tool_calls=[{**row, "type": "tool_call"} for row in turn]) for turn in turns]


_CASTS: dict[str, Callable[[Guard, Stage], Cast]] = {
    "refund": _refund,
    "model-file": _model_file,
    "drain": _drain,
}

if __name__ == "__main__":
    main()
