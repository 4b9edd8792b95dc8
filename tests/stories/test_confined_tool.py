"""`ConfinedTool`: source of one's own, run confined with the arguments of the call."""

from __future__ import annotations

from pathlib import Path

import pytest
from host import require
from pydantic import BaseModel

from fumehood.errors import ConfigError, Denied
from fumehood.testing import guarded
from fumehood_adapters.langchain import ConfinedTool

PERMIT = "package policies.own\n\nimport data.fumehood.call\n\npermit if is_string(call.tool)\n"
STRICTER = PERMIT + '\nconfine contains "strictest" if call.tool == "count"\n'
ECHO = "import json, sys\nprint(sorted(json.loads(sys.argv[1]).items()))"


class Arguments(BaseModel):
    text: str
    times: int = 2


def policies(folder: Path, rego: str) -> Path:
    made = folder / "policies"
    made.mkdir()
    (made / "own.rego").write_text(rego)
    return made


@pytest.fixture(autouse=True)
def confinable() -> None:
    require("userns")


async def test_source_gets_the_bound_arguments_with_their_defaults(tmp_path: Path) -> None:
    with guarded(policies(tmp_path, PERMIT), folder=tmp_path) as guard:
        tool = ConfinedTool(guard, name="count", description="Count.", args_schema=Arguments, source=ECHO)
        hostile = "$(id) \x00 ⟨'\""
        expected = f"[('text', {hostile!r}), ('times', 2)]\n[exit code 0]"
        assert tool.invoke({"text": hostile}) == expected
        assert await tool.ainvoke({"text": hostile}) == expected


def test_source_that_fails_is_a_result_and_sees_no_file_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    source = f"print(open({str(tmp_path / 'secret')!r}).read())"
    with guarded(policies(tmp_path, PERMIT), folder=tmp_path) as guard:
        tool = ConfinedTool(guard, name="count", description="Count.", args_schema=Arguments, source=source)
        said = tool.invoke({"text": "x"})
        assert "FileNotFoundError" in said and said.endswith("[exit code 1]")


def test_the_strictest_of_the_own_profile_and_the_policys_counts(tmp_path: Path) -> None:
    source = "import os; print(os.fork())"
    with guarded(policies(tmp_path, STRICTER), folder=tmp_path) as guard:
        tool = ConfinedTool(guard, name="count", description="Count.", args_schema=Arguments, source=source)
        with guard.session(agent="bot") as session:
            assert "PermissionError" in tool.invoke({"text": "x"})
        guard.ledger.flush()
        outcome = next(e for e in guard.ledger.events(0, session=session.id) if e.kind == "outcome")
        assert b"python-offline+strictest" in outcome.attributes


def test_the_guards_own_files_are_never_shown(tmp_path: Path) -> None:
    with guarded(policies(tmp_path, PERMIT), folder=tmp_path) as guard:
        tool = ConfinedTool(
            guard, name="count", description="Count.", args_schema=Arguments, source=ECHO, read=[tmp_path]
        )
        with pytest.raises(Denied) as refused:
            tool.invoke({"text": "x"})
        assert refused.value.code == "cannot_confine"


def test_annotations_that_name_no_argument_are_refused(tmp_path: Path) -> None:
    with (
        guarded(policies(tmp_path, PERMIT), folder=tmp_path) as guard,
        pytest.raises(ConfigError, match="pth"),
    ):
        ConfinedTool(
            guard,
            name="count",
            description="Count.",
            args_schema=Arguments,
            source=ECHO,
            annotations={"kind": "execute", "object": ["pth"]},
        )
