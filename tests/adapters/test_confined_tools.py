"""`PythonTool` and `ShellTool`: a model's code runs confined, and how it ends is a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from adapters.conftest import DENY, PERMIT, Open
from host import require
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage

from fumehood import ConfinementError, Denied
from fumehood_adapters.langchain import GuardMiddleware, PythonTool, ShellTool, guard_tools
from fumehood_adapters.scripted import ScriptedChatModel, calls, say

STRICTEST = PERMIT + '\nconfine contains "strictest" if is_string(call.tool)\n'
CONFINED_CODE = """package policies.code

import data.fumehood.call

permit if {
	call.kind == "execute"
	call.runs == "confined"
}
"""


@pytest.fixture(autouse=True)
def confinable() -> None:
    require("userns")


def test_python_runs_confined_and_its_output_is_the_result(open_guard: Open) -> None:
    guard = open_guard(CONFINED_CODE)
    python = PythonTool(guard)
    with guard.session(agent="a"):
        assert python.invoke({"code": "print(6 * 7)"}) == "42\n[exit code 0]"
        failed = python.invoke({"code": "print('before'); raise SystemExit(3)"})
        assert failed == "before\n[exit code 3]"
        assert "ZeroDivisionError" in python.invoke({"code": "1 / 0"})


def test_a_shell_command_runs_confined(open_guard: Open) -> None:
    guard = open_guard(CONFINED_CODE)
    shell = ShellTool(guard)
    with guard.session(agent="a"):
        assert shell.invoke({"command": "echo a; echo b >&2; exit 4"}) == "a\n[stderr]\nb\n[exit code 4]"


async def test_both_work_awaited(open_guard: Open) -> None:
    guard = open_guard(CONFINED_CODE)
    async with guard.session(agent="a"):
        assert await PythonTool(guard).ainvoke({"code": "print(1)"}) == "1\n[exit code 0]"
        assert await ShellTool(guard).ainvoke({"command": "echo 1"}) == "1\n[exit code 0]"


def test_the_code_reaches_neither_files_nor_network(open_guard: Open, tmp_path: Path) -> None:
    guard = open_guard(CONFINED_CODE)
    target = tmp_path / "written"
    code = f"""
import socket
for act in (
    lambda: open({str(target)!r}, "w"),
    lambda: open("/etc/shadow"),
    lambda: socket.create_connection(("127.0.0.1", 9), 1),
):
    try:
        act()
        print("did it")
    except OSError as error:
        print("no")
"""
    with guard.session(agent="a"):
        assert PythonTool(guard).invoke({"code": code}) == "no\nno\nno\n[exit code 0]"
    assert not target.exists()


def test_a_deadline_is_a_result(open_guard: Open) -> None:
    guard = open_guard(CONFINED_CODE)
    with guard.session(agent="a"):
        said = PythonTool(guard, timeout_s=0.5).invoke({"code": "while True: pass"})
    assert said.startswith("[ended by: deadline")


def test_denied_code_starts_no_process(open_guard: Open) -> None:
    guard = open_guard(DENY)
    with guard.session(agent="a"):
        for tool, given in ((PythonTool(guard), {"code": "1"}), (ShellTool(guard), {"command": "true"})):
            with pytest.raises(Denied):
                tool.invoke(given)


def test_policy_may_name_a_stricter_profile_and_the_record_says_which_layers_there_were(
    open_guard: Open,
) -> None:
    guard = open_guard(STRICTEST)
    with guard.session(agent="a"):
        assert "PermissionError" in PythonTool(guard).invoke({"code": "import os; os.fork()"})
        guard.ledger.flush()
        [outcome] = [e for e in guard.ledger.events() if e.kind == "outcome"]
    assert b"fumehood.confinement" in outcome.attributes and b"layers" in outcome.attributes


def test_a_profile_that_nobody_knows_denies(open_guard: Open) -> None:
    guard = open_guard(PERMIT + '\nconfine contains "no-such-profile" if is_string(call.tool)\n')
    with guard.session(agent="a"), pytest.raises(Denied):
        PythonTool(guard).invoke({"code": "print(1)"})


def test_a_workdir_is_the_codes_own_folder(open_guard: Open, tmp_path: Path) -> None:
    guard = open_guard(CONFINED_CODE)
    work = tmp_path / "work"
    work.mkdir()
    (work / "in.txt").write_text("hello")
    shell = ShellTool(guard, workdir=work)
    with guard.session(agent="a"):
        assert shell.invoke({"command": "cat in.txt"}) == "hello\n[exit code 0]"


def test_an_agent_uses_it_like_any_other_tool(open_guard: Open) -> None:
    guard = open_guard(CONFINED_CODE)
    tools = guard_tools([PythonTool(guard)], guard)
    model = ScriptedChatModel([calls("python", code="print(2 ** 10)"), say("done")])
    agent = create_agent(model, tools, middleware=[GuardMiddleware(guard)])
    with guard.session(agent="a"):
        messages: Any = agent.invoke({"messages": [HumanMessage("compute")]})["messages"]
    assert [m.content for m in messages if isinstance(m, ToolMessage)] == ["1024\n[exit code 0]"]


def test_workdir_that_holds_the_ledger_is_refused_when_the_tool_is_made(open_guard: Open) -> None:
    guard = open_guard(PERMIT)
    with pytest.raises(ConfinementError, match="belongs to the guard"):
        PythonTool(guard, workdir=Path(guard.ledger.path).parent)
