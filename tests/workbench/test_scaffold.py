"""`fumehood policy new`: what it writes works at once, whatever the tools are called."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from host import opa_binary, require
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fumehood_policies
from fumehood.errors import ConfigError
from fumehood.workbench import run_policy_tests
from fumehood.workbench.lint import check_policies
from fumehood.workbench.lint.unfinished import MARK
from fumehood.workbench.scaffold import name_for, plan_for, scaffold, write_new
from fumehood.workbench.tools import ToolSchema, load_tools, tools_from_module, tools_from_text, tools_to_text

TYPES = ["string", "number", "integer", "boolean", "array", "object", ["string", "null"], None]
NAMES = st.one_of(
    st.sampled_from(["amount", "to", "in", "with", "a-b", "tool", "x y", 'q"', "ä", "a/b", "a~b", "input"]),
    st.text(max_size=8),
)
PROPERTIES = st.dictionaries(
    NAMES, st.sampled_from(TYPES).map(lambda t: {"type": t} if t else {}), max_size=5
)


@st.composite
def tool_schemas(draw: st.DrawFn) -> ToolSchema:
    properties = draw(PROPERTIES)
    required = [name for name in properties if draw(st.booleans())]
    name = draw(st.sampled_from(["pay", "get_x", "a.b/c:d-e", "X1", "send_mail", "if"]))
    kind = draw(st.sampled_from([{}, {"kind": "read"}, {"kind": "money", "target": list(properties)[:1]}]))
    return ToolSchema(name, {"properties": properties, "required": required}, kind)


@pytest.fixture
def without_opa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("FUMEHOOD_OPA", raising=False)


@given(st.lists(tool_schemas(), min_size=1, max_size=4, unique_by=lambda t: t.name))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_is_written_passes_everything_but_its_marks(
    tmp_path: Path, without_opa: None, tools: list[ToolSchema]
) -> None:
    where = tmp_path / str(len(list(tmp_path.iterdir())))
    write_new(where, scaffold("mine", tools))
    report = run_policy_tests([str(where)], mutates=True, covers=True)
    assert report.is_ok, [r for r in report.results if r.outcome != "pass"]
    assert report.coverage is not None
    assert report.coverage.percent == 100
    assert len(report.results) >= 4
    findings = check_policies([str(where)]).findings
    assert {f.code for f in findings} == {"unfinished"}, findings
    for path in where.iterdir():
        path.write_text(path.read_text().replace(MARK, "decided"))
    assert not check_policies([str(where)]).findings


def test_one_rule_of_each_kind_and_every_other_tool_is_named(tmp_path: Path) -> None:
    files = scaffold("mine", [ToolSchema(n) for n in ("read_a", "pay", "delete_b", "list_c")])
    text = files["mine.rego"]
    assert [len(re.findall(rf"^{rule}\b", text, re.M)) for rule in ("permit", "approve", "deny")] == [2, 1, 1]
    assert "no rule names list_c" in text
    assert "no rule names pay" in text


def test_examples_pass_both_engines(tmp_path: Path) -> None:
    require("opa")
    write_new(tmp_path / "p", scaffold("mine"))
    report = run_policy_tests([str(tmp_path / "p")], engines="both", opa=opa_binary(), mutates=True)
    assert report.is_ok
    answer = subprocess.run(
        [str(opa_binary()), "test", "--fail-on-empty", str(tmp_path / "p"), str(fumehood_policies.LIBRARY)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (0, "PASS: 3/3\n"), answer


@pytest.mark.parametrize("name", ["x\n}\npermit if true", 'a"', "", "a b", "ä", "x" * 200, "-x"])
def test_tool_whose_name_is_not_plain_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="odd name"):
        plan_for("mine", [ToolSchema(name)])


@pytest.mark.parametrize("name", ["", "a b", "if", "1a", "a.b", "x" * 100, "a\n"])
def test_name_that_no_package_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a package's name"):
        scaffold(name)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("refunds", "refunds"), ("my-mail", "my_mail"), ("policies", "agent"), ("if", "agent"), ("1", "agent")],
)
def test_package_is_called_as_the_folder_is(folder: str, name: str) -> None:
    assert name_for(Path("/x") / folder) == name


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.rego").write_text("kept")
    with pytest.raises(ConfigError, match="not empty"):
        write_new(tmp_path, scaffold("mine"))
    with pytest.raises(ConfigError, match="cannot be written"):
        write_new(tmp_path / "mine.rego", scaffold("mine"))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.rego"]
    assert (tmp_path / "mine.rego").read_text() == "kept"


MODULE = """
from typing import Literal, Optional
from fumehood import Guard

guard = Guard("refund", ledger="LEDGER")

@guard.tool(kind="money", target=["iban"])
def pay(iban: str, cents: int, note: Optional[str] = None, **more: str) -> str: ...

def plain(path: str) -> str: ...

class Old:
    name = "old"
    class args_schema:
        @staticmethod
        def schema():
            return {"properties": {"q": {"type": "string"}}}

DICT = {"a": pay, "b": plain}
OLD = [Old()]
ONE = plain
BAD = ["x"]
TWICE = [plain, plain]
EMPTY = []
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"tools_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(MODULE.replace("LEDGER", str(tmp_path / "l.db")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_functions_and_governed_functions_are_read(module: str) -> None:
    pay, plain = tools_from_module(f"{module}:DICT")
    assert (pay.name, plain.name) == ("pay", "plain")
    assert dict(pay.annotations) == {"kind": "money", "target": ["iban"]}
    assert set(pay.properties) == {"iban", "cents", "note"}
    assert pay.is_open
    assert not plain.is_open
    assert (pay.types_of("cents"), pay.types_of("note")) == ({"integer"}, {"string", "null"})
    assert [t.name for t in tools_from_module(f"{module}:ONE")] == ["plain"]
    assert set(tools_from_module(f"{module}:OLD")[0].properties) == {"q"}


def test_langchain_tools_are_read_by_their_shape(module: str, tmp_path: Path) -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.tools import tool

    @tool
    def send(to: str, copies: int = 1) -> str:
        """Send."""
        return to

    import types

    holder: Any = types.ModuleType("holder_of_tools")
    holder.TOOLS = [send]
    sys.modules["holder_of_tools"] = holder
    try:
        (found,) = tools_from_module("holder_of_tools:TOOLS")
    finally:
        del sys.modules["holder_of_tools"]
    assert (found.name, set(found.properties)) == ("send", {"to", "copies"})


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (":BAD", "no tool"), (":TWICE", "two tools of one name"), (":EMPTY", "no tools"),
        (":NONE", "no attribute"),
        ("", "expected module:name"), (":", "expected module:name"),
    ],
)  # fmt: skip
def test_what_is_no_tool_is_refused(module: str, what: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_tools(module + what)


def test_module_that_ends_the_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving.py").write_text("import sys; sys.exit(0)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ConfigError, match="SystemExit"):
        load_tools("leaving:x")


def test_exported_schemas_read_back_as_they_were(tmp_path: Path) -> None:
    tools = (
        ToolSchema("a", {"properties": {"ü\u2028": {"type": "string"}}}, {"kind": "read"}),
        ToolSchema("b"),
    )
    text = tools_to_text(tools)
    assert text.isascii()
    (tmp_path / "tools.json").write_text(text)
    assert load_tools(str(tmp_path / "tools.json")) == tools


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"tool_schemas": []}',
        '{"tool_schemas": {"a": 1}}',
        '{"tool_schemas": {"a": {"x": 1}}}',
        "[" * 100_000,
        '{"a": 1, "a": 2}',
    ],
)
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"tools\.json"):
        tools_from_text(text, "tools.json")


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["string", "#/$defs/A", "null"]),
    lambda v: (
        st.lists(v, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "anyOf", "$ref", "$defs", "A", "properties", "required"]), v
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["properties", "$defs", "required", "additionalProperties"]), JSONS))
def test_any_json_may_stand_where_a_schema_should(schema: dict[str, Any]) -> None:
    files = scaffold("mine", [ToolSchema("pay", schema, schema)])
    assert "mine.rego" in files
    assert tools_from_text(files["tools.json"], "tools.json") == (ToolSchema("pay", schema, schema),)


def test_references_in_a_schema_are_followed() -> None:
    schema: dict[str, Any] = {
        "$defs": {"Level": {"type": "string", "enum": ["a"]}},
        "properties": {
            "level": {"anyOf": [{"$ref": "#/$defs/Level"}, {"type": "null"}]},
            "gone": {"$ref": "#/$defs/No"},
        },
    }
    tool = ToolSchema("t", schema)
    assert tool.types_of("level") == {"string", "null"}
    assert tool.types_of("gone") == set()
