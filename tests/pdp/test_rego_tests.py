"""`fumehood policy test` follows `opa test`: the same rules, the same outcomes, without the binary."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from host import opa_binary, require
from pdp.policies import HEAD, folder_of

import fumehood_policies
from fumehood.errors import ConfigError
from fumehood.pdp import run_tests

TESTS = """package policies.x_test

import data.fumehood.main
import data.policies.x

test_pass if x.permit with input as {"resource": {"id": "read"}}

test_undefined if x.permit with input as {"resource": {"id": "other"}}

test_false := false

test_error if abs(input.resource.id) > 1 with input as {"resource": {"id": "a"}}

test_main if {
	decision := main.decision with input as {"action": {"name": "execute_tool"}, "resource": {"id": "read"}}
	decision.effect == "permit"
}

test_twice if 1 == 2

test_twice if 1 == 1

todo_test_later if 1 == 2

_helper := {"resource": {"id": "read"}}

test_helper if x.permit with input as _helper

test_text := "a text is not true"

test_print if {
	print("hello")
	1 == 2
}
"""
OUTCOMES = {
    "pass": "pass",
    "undefined": "fail",
    "false": "fail",
    "error": "error",
    "main": "pass",
    "twice": "error",
    "helper": "pass",
    "text": "fail",
    "print": "fail",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "p", x=HEAD, x_test=TESTS)


def test_outcomes_are_those_of_opa_test(folder: Path) -> None:
    found = {r.name.rpartition(".test_")[2]: r.outcome for r in run_tests([folder]) if ".test_" in r.name}
    assert found == OUTCOMES
    require("opa")
    library = str(fumehood_policies.LIBRARY)
    answer = subprocess.run(
        [str(opa_binary()), "test", str(folder), library, "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    theirs = {
        row["name"].removeprefix("test_"): "error"
        if "error" in row
        else "fail"
        if row.get("fail")
        else "pass"
        for row in json.loads(answer.stdout)
        if row["name"].startswith("test_")
    }
    differ = {name for name in OUTCOMES if theirs[name] != OUTCOMES[name]}
    assert differ <= {"error", "twice"}  # `opa test` is not strict; it numbers tests of one name


def test_todo_is_skipped_and_what_a_test_prints_is_kept(folder: Path) -> None:
    results = {r.name.rpartition(".")[2]: r for r in run_tests([folder])}
    assert results["todo_test_later"].outcome == "skip"
    assert "hello" in results["test_print"].output
    assert results["test_pass"].line == TESTS.split("test_pass")[0].count("\n") + 1


def test_only_those_that_match_run(folder: Path) -> None:
    assert [r.name for r in run_tests([folder], only="_main$")] == ["data.policies.x_test.test_main"]
    with pytest.raises(ConfigError, match="not a regular expression"):
        run_tests([folder], only="(")


def test_tests_in_the_policys_own_package_work(tmp_path: Path) -> None:
    text = (
        'package policies.x\n\ntest_own if permit with input as {"resource": {"id": "read"}}\n\n'
        'test_main if data.fumehood.main.decision.effect == "deny" '
        'with input as {"action": {"name": "execute_tool"}}\n'
    )
    results = run_tests([folder_of(tmp_path / "p", x=HEAD, x_test=text)])
    assert [r.outcome for r in results] == ["pass", "pass"]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ('{"resorce": {"id": "read"}}', "/resorce: Extra inputs"),
        ('{"resource": {"id": 3}}', "/resource/id"),
        ('{"action": {"name": "execute"}}', "/action/name"),
        ('{"context": {"provenance": {"args": {"to": []}}}}', "/context/provenance/args/to"),
    ],
)
def test_input_that_no_guard_would_send_is_an_error(document: str, says: str, tmp_path: Path) -> None:
    text = f"package x_test\n\ntest_a if data.policies.x.permit with input as {document}\n"
    (result,) = run_tests([folder_of(tmp_path / "p", x=HEAD, x_test=text)])
    assert result.outcome == "error"
    assert says in result.message


def test_bad_policies_and_unreadable_tests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="denny"):
        run_tests([folder_of(tmp_path / "a", x=HEAD + 'denny contains "x" if call.tool == "b"\n')])
    with pytest.raises(ConfigError, match=r"x_test\.rego:4:1: not Rego"):
        run_tests([folder_of(tmp_path / "b", x=HEAD, x_test="package x_test\n\ntest_a if {\n")])


def test_variable_of_a_test_may_hide_an_import(tmp_path: Path) -> None:
    text = "package x_test\n\nimport data.policies.x\n\ntest_a if {\n\tx := 1\n\tx == 1\n}\n"
    (result,) = run_tests([folder_of(tmp_path / "p", x=HEAD, x_test=text)])
    assert result.outcome == "pass"
