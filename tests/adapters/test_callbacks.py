"""What LangChain's callbacks and tracers see of a guarded call: never more of the result than the agent."""

from __future__ import annotations

from typing import Any

import pytest
from adapters.conftest import Open
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tools import tool

from fumehood import Withheld
from fumehood_adapters.langchain import guard_tools

POLICY = """package policies.callbacks

import data.fumehood.call

permit if call.tool in {"leak", "boom"}

redact contains {"pattern": "[0-9]{16}"} if call.tool == "leak"

withhold contains "it names a password" if call.tool == "boom"
"""


class Ear(BaseCallbackHandler):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_tool_end(self, output: Any, **_: Any) -> None:
        self.heard.append(repr(output))

    def on_tool_error(self, error: BaseException, **_: Any) -> None:
        self.heard.append(f"{error!r} {error.__cause__!r} {error.__context__!r}")


@tool
def leak(x: int) -> str:
    """Say a card's number."""
    return "card 4111111111111111"


@tool
def boom(x: int) -> str:
    """Fail, and say why."""
    raise ValueError("the password is hunter2")


def test_callbacks_hear_of_a_result_only_what_is_released(open_guard: Open) -> None:
    guard = open_guard(POLICY)
    ear = Ear()
    says, fails = guard_tools([leak, boom], guard)
    with guard.session(agent="bot"):
        assert says.invoke({"x": 1}, config={"callbacks": [ear]}) == "card [redacted]"
        with pytest.raises(Withheld):
            fails.invoke({"x": 1}, config={"callbacks": [ear]})
    assert len(ear.heard) == 2
    assert "4111" not in ear.heard[0] and "[redacted]" in ear.heard[0]
    assert "hunter2" not in ear.heard[1]
