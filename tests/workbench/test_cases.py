"""Case tables: what a fragment becomes, and what is refused with its line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbench.tables import CASES, folder, row

from fumehood.errors import ConfigError, Problem
from fumehood.pdp.document import complaints
from fumehood.pdp.sources import PolicyFile
from fumehood.workbench.call_input import document_from
from fumehood.workbench.cases import Case, cases_of
from fumehood.workbench.completing import completed
from fumehood.workbench.fragments import fragment_of
from fumehood.workbench.run import run_policy_tests
from fumehood.workbench.tools import ToolSchema


def read(text: str, *tools: ToolSchema) -> tuple[list[Case], list[Problem]]:
    return cases_of([PolicyFile("p/x_cases.yaml", "x_cases.yaml", text, "p")], tools)


def test_fragment_becomes_a_whole_policy_input() -> None:
    (case,), problems = read(row("{tool: read_file, args: {path: /srv/a/../b}, origins: {/path: user}}"))
    assert problems == []
    assert complaints(case.document) == []  # type: ignore[arg-type]
    action, context = case.document["action"], case.document["context"]
    assert action == {"name": "execute_tool", "properties": {"args": {"path": "/srv/a/../b"}}}
    assert context["normalised"]["paths"] == {"/path": "/srv/b"}  # type: ignore[index,call-overload]
    source = {"origin": "user", "source": "given"}
    assert context["provenance"] == {"args": {"/path": [source]}}  # type: ignore[index,call-overload]
    assert (case.name, case.line) == ("one", 2)


def test_any_part_of_the_input_may_be_given_and_wins() -> None:
    text = row(
        "{tool: t, action: {name: return_result, properties: {result: {a: 1}, is_error: true}},"
        " subject: {id: bot, properties: {roles: [admin]}}, context: {time: 2027-01-01T00:00:00Z}}"
    )
    (case,), problems = read(text)
    assert problems == []
    assert case.document["subject"] == {"type": "agent", "id": "bot", "properties": {"roles": ["admin"]}}
    assert case.document["action"]["properties"] == {"args": {}, "result": {"a": 1}, "is_error": True}  # type: ignore[index,call-overload]
    assert case.document["context"]["time"] == "2027-01-01T00:00:00Z"  # type: ignore[index,call-overload]


def test_annotations_of_a_known_tool_are_filled_in() -> None:
    tool = ToolSchema("t", {}, {"kind": "money", "target": ["to"]})
    (case,), _ = read(row("{tool: t}"), tool)
    assert case.document["resource"]["properties"]["annotations"] == {"kind": "money", "target": ["to"]}  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("cases: 3", 1, "list"),
        ("casess: []", 1, 'did you mean "cases"'),
        ("", 1, "dictionary"),
        ("cases:\n  - name: a\n    input: {tool: t}\n", 2, "`expect` is missing"),
        (CASES.replace("effect: ask", "effect: asks"), 9, "'permit', 'ask' or 'deny'"),
        (CASES.replace("reasons:", "reason:"), 9, 'did you mean "reasons"'),
        (CASES.replace("args: {amount: 400}", "arg: {}"), 11, 'did you mean "args"'),
        (CASES.replace("name: large", "name: small and named"), 10, "another row"),
        (CASES.replace("name: large", "name: 3"), 10, "valid string"),
        (row("{args: {}}"), 3, "no tool is named"),
        (row("{tool: t, resource: {id: u}}"), 3, "given twice"),
        (row("{tool: t, args: {}, action: {properties: {args: {}}}}"), 3, "given twice"),
        (row("{tool: t, origins: {amount: user}}"), 3, "pattern"),
        (row("{tool: t, origins: {/amount: users}}"), 3, "'user'"),
        (row("{tool: t, context: {tme: x}}"), 3, "/context/tme"),
        (row("{tool: t, action: {name: execute}}"), 3, "/action/name"),
        (row("{tool: t, subject: {id: null}}"), 3, "id is null"),
        (row("{tool: t, args: {n: 9007199254740992}}"), 3, "no guard would send"),
        (row("{tool: t, args: {a: &x 1, b: *x}}"), 3, "anchor"),
    ],
)
def test_what_no_table_may_say_is_refused_with_its_line(text: str, line: int, says: str) -> None:
    _, problems = read(text)
    assert problems, text
    assert (problems[0].file, problems[0].line) == ("x_cases.yaml", line), problems[0]
    assert any(says in str(problem) for problem in problems)


def test_a_table_with_an_error_runs_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pay_cases\.yaml:9:.*did you mean \"reasons\""):
        run_policy_tests([str(folder(tmp_path, cases=CASES.replace("reasons:", "reason:", 1)))])


def test_tables_and_schemas_are_no_data(tmp_path: Path) -> None:
    from fumehood.pdp import load_bundle

    with_them = load_bundle([str(folder(tmp_path / "a", tools_dot_json="{}"))])
    without = load_bundle([str(folder(tmp_path / "b", cases=""))])
    assert with_them.data == without.data == "{}"
    assert load_bundle([str(folder(tmp_path / "c", data_dot_yaml="a: 1"))]).data == '{"a": 1}'


NAMES = st.sampled_from(["name", "input", "expect", "tool", "args", "effect", "context", "action", "x", "/a"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_any_table_is_read_or_refused(value: object) -> None:
    import json

    text = json.dumps({"cases": [value]}, ensure_ascii=False)
    cases, problems = read(text)
    assert cases or problems


ARGS = st.dictionaries(st.text(max_size=5), VALUES, max_size=3)
ORIGINS = st.dictionaries(st.sampled_from(["/a", "/b/c"]), st.sampled_from(["user", "untrusted"]), max_size=2)
PARTS = st.sampled_from(
    [
        {},
        {"context": {"session": {"id": "s", "prompt": "p"}}},
        {"subject": {"id": "x"}, "resource": {"properties": {"annotations": {"kind": "read"}}}},
        {"context": {"provenance": {"session_labels": ["untrusted"]}, "normalised": {}}},
        {"action": {"name": "return_result", "properties": {"result": [1]}}},
    ]
)


@given(ARGS, ORIGINS, PARTS)
def test_what_is_shown_of_an_input_completes_to_it_again(args: Any, origins: Any, parts: Any) -> None:
    document = completed({"tool": "t", "args": args, "origins": origins} | parts, {})
    short = fragment_of(document)
    assert completed(short, {}) == document
    assert len(str(short)) < len(str(document))


def test_row_and_call_with_the_same_fragment_are_the_same_question() -> None:
    text = (
        '{"tool": "fetch", "args": {"url": "http://a"}, "origins": {"/url": "user"}, "subject": {"id": "x"}}'
    )
    (case,), problems = read(row(text))
    assert problems == []
    asked = document_from(json.loads(text), at=datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp())
    assert isinstance(asked, dict)
    session = {"session": {"id": "case"}}
    assert asked | {"context": asked["context"] | session} == case.document  # type: ignore[operator]


def test_row_may_name_a_phase_and_has_the_history_and_counters_of_a_first_call() -> None:
    (case,), problems = read(row("{tool: fetch, phase: return_result, action: {properties: {result: x}}}"))
    assert problems == []
    assert case.document["action"]["name"] == "return_result"  # type: ignore[index,call-overload]
    assert "provenance" not in case.document["context"]  # type: ignore[operator]
    (case,), _ = read(row("{tool: fetch}"))
    assert case.document["context"]["history"] == []  # type: ignore[index,call-overload]
    assert case.document["context"]["counters"]["windows"]["60"] == {"calls": 0}  # type: ignore[index,call-overload]
    _, problems = read(row("{tool: fetch, phase: connect, action: {name: connect}}"))
    assert "the phase is given twice" in problems[0].message
    _, problems = read(row("{tool: fetch, phase: connected}"))
    assert problems


def test_calls_know_the_annotations_of_the_tools_beside_the_policies() -> None:
    tools = [ToolSchema("fetch", annotations={"kind": "egress"})]
    asked: Any = document_from({"tool": "fetch"}, tools=tools)
    assert asked["resource"]["properties"]["annotations"] == {"kind": "egress"}
