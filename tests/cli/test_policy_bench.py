"""`fumehood policy bench`: every case with every engine, and what it answered. No times are asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fumehood.cli.root import root
from fumehood.errors import BindError, ConfigError

POLICY = 'package policies.p\n\npermit if input.resource.id == "issue_refund"\n'
CALLS = [{"tool": "issue_refund", "args": {"amount_usd": 5000}}, {"tool": "read_ticket", "args": {"id": 1}}]


@pytest.fixture
def calls(tmp_path: Path) -> str:
    path = tmp_path / "calls.json"
    path.write_text(json.dumps(CALLS))
    return str(path)


def run(*args: str) -> Result:
    return CliRunner().invoke(root, ["policy", "bench", "-n", "5", *args])


def test_every_case_is_decided_by_every_embedded_engine(calls: str) -> None:
    rows = json.loads(run("refund", "-i", calls, "--json").stdout)["timings"]
    assert [(r["engine"], r["case"], r["answer"]) for r in rows] == [
        ("thread", "calls.json#0", "deny"),
        ("thread", "calls.json#1", "permit"),
        ("worker", "calls.json#0", "deny"),
        ("worker", "calls.json#1", "permit"),
    ]
    assert all(0 < r["p50_us"] <= r["p99_us"] for r in rows)


def test_table_names_engine_and_answer(calls: str) -> None:
    lines = run("refund", "-i", calls).stdout.splitlines()
    assert lines[0].split() == ["ENGINE", "P50", "P99", "ANSWER", "CASE"]
    assert lines[1].startswith("thread")


def test_without_calls_it_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text(POLICY)
    assert run(f"{tmp_path}/").exit_code == 2


TABLE = """
cases:
  - name: small
    input: {tool: issue_refund, args: {amount_usd: 5}}
    expect: {effect: deny}
"""


def test_rows_of_case_tables_are_calls(tmp_path: Path) -> None:
    table = tmp_path / "pay_cases.yaml"
    table.write_text(TABLE)
    (tmp_path / "p.rego").write_text(POLICY)
    for args in ((f"{tmp_path}/",), ("refund", "-i", str(table))):
        rows = json.loads(run(*args, "--json").stdout)["timings"]
        assert [(r["engine"], r["case"]) for r in rows] == [("thread", "small"), ("worker", "small")]


def test_case_table_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "pay_cases.yaml"
    table.write_text(TABLE.replace("expect:", "expects:"))
    said = run("refund", "-i", str(table))
    assert said.exit_code == 3 and "pay_cases.yaml:3:5" in said.stderr


def test_call_that_is_not_understood_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps([*CALLS, {"tol": 1}]))
    error = run("refund", "-i", str(tmp_path / "c.json")).exception
    assert isinstance(error, BindError)
    assert "call 2 of the list" in str(error)


def test_server_that_is_not_there_is_refused(calls: str) -> None:
    assert isinstance(run("refund", "-i", calls, "--pdp", "http://127.0.0.1:9").exception, ConfigError)
