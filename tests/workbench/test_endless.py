"""Policies that do not end for some call: each verb ends them, and says for which call and which rule."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.conftest import Shell, fumehood
from host import opa_binary, require
from workbench.tables import failed

from fumehood import Guard
from fumehood.pdp import rego_tests
from fumehood.workbench import engines, judge, opa, run_policy_tests
from fumehood.workbench.call_input import document_from
from fumehood.workbench.explain import Explainer

__all__ = ["fumehood"]

POLICY = """package policies.x

import data.fumehood.call

permit if call.tool == "read"

permit if {
	call.tool == "loop"
	is_number(call.args.n)
	count({[a, b] | some a in numbers.range(1, call.args.n); some b in numbers.range(1, call.args.n)}) > 9
}

permit if call.tool == "other"
"""
LOOPING = "{tool: loop, args: {n: 100000}}"
CASES = f"""cases:
  - name: looping
    input: {LOOPING}
    expect: {{effect: deny}}
  - name: reading
    input: {{tool: read}}
    expect: {{effect: permit}}
  - name: known to be too much
    input: {LOOPING}
    expect: {{effect: deny, reasons: [{{code: pdp_timeout}}]}}
"""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "DECIDING_S", 0.1)


@pytest.fixture
def policies(tmp_path: Path) -> str:
    where = tmp_path / "policies"
    where.mkdir()
    (where / "x.rego").write_text(POLICY)
    (where / "x_cases.yaml").write_text(CASES)
    (tmp_path / "call.json").write_text('{"tool": "loop", "args": {"n": 100000}}')
    return str(where)


def test_case_that_does_not_end_fails_with_the_rule_and_the_others_are_still_decided(policies: str) -> None:
    report = run_policy_tests([policies])
    assert list(failed(report)) == ["x_cases/looping"]
    row = failed(report)["x_cases/looping"]
    assert "CPU time" in row.message and "the guard denies such a call" in row.message
    assert "where it got stuck" in row.message and "x.rego:7: policies.x.permit" in row.message
    assert "call.tool ==" in row.message and '"read"' not in row.message
    assert len(report.results) == 3


def test_variant_that_does_not_end_fails_with_its_name(policies: str, tmp_path: Path) -> None:
    policy = POLICY.replace("is_number(call.args.n)", "not is_number(call.args.m)\n\tis_number(call.args.n)")
    (tmp_path / "policies/x.rego").write_text(policy.replace("not is_number(call.args.m)", "call.args.m < 0"))
    row = "{tool: loop, args: {n: 100000, m: 5}}"
    (tmp_path / "policies/x_cases.yaml").write_text(
        f"cases:\n  - name: one\n    input: {row}\n    expect: {{effect: deny}}\n"
    )
    report = run_policy_tests([policies], mutates=True, only="one")
    assert "x_cases/one [/m negated]" in failed(report)
    assert "CPU time" in failed(report)["x_cases/one [/m negated]"].message


def test_after_many_that_had_to_be_ended_no_more_are_asked(
    policies: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "_MOST_LATE", 1)
    rows = [f"  - name: n{n}\n    input: {LOOPING}\n    expect: {{effect: deny}}\n" for n in range(9)]
    (tmp_path / "policies/x_cases.yaml").write_text("cases:\n" + "".join(rows))
    said = failed(run_policy_tests([policies]))
    assert len(said) == 9
    assert "not asked" in said["x_cases/n8"].message


def test_rego_test_that_does_not_end_is_an_error_and_the_next_one_runs(
    policies: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rego_tests, "_TEST_S", 0.2)
    endless = "count({[a, b] | some a in numbers.range(1, 99999); some b in numbers.range(1, 99999)}) > 9"
    (tmp_path / "policies/x_test.rego").write_text(
        f"package policies.x_test\n\ntest_a if true\n\ntest_b if {endless}\n\n"
        "test_c if count(numbers.range(1, 1000000000)) > 9\n\ntest_d if true\n"
    )
    report = run_policy_tests([policies], only="data", covers=True)
    assert [row.outcome for row in report.results] == ["pass", "error", "error", "pass"]
    assert "CPU time" in report.results[1].message and "ended" in report.results[2].message


def test_a_call_that_is_never_decided_is_a_denial_that_names_the_condition(
    fumehood: Shell, policies: str, tmp_path: Path
) -> None:
    call = ("-i", tmp_path / "call.json")
    said = fumehood("policy", "eval", policies, *call)
    assert said.code == 1 and "pdp_timeout" in said.out
    said = fumehood("policy", "eval", policies, *call, "--json")
    assert said.code == 1 and "pdp_timeout" in json.loads(said.out)["error"]
    said = fumehood("policy", "explain", policies, *call)
    assert said.code == 0
    (line,) = [line for line in said.out.splitlines() if line.strip().startswith("!")]
    assert "numbers.range" in line and "x.rego:10:2" in line


def test_bench_does_not_wait_for_what_never_ends(fumehood: Shell, policies: str, tmp_path: Path) -> None:
    (tmp_path / "policies/x_cases.yaml").write_text(CASES.partition("  - name: known")[0])
    said = fumehood("policy", "bench", policies, "-n", "5", "--json")
    assert said.code == 1
    found = [(row["case"], row["engine"], row["answer"]) for row in json.loads(said.out)["timings"]]
    assert found == [
        ("reading", "thread", "permit"),
        ("looping", "worker", "pdp_timeout"),
        ("reading", "worker", "permit"),
    ]
    assert "looping: the policies take too long" in said.err


def test_opa_is_not_asked_about_what_the_embedded_engine_could_not_end(policies: str) -> None:
    require("opa")
    report = run_policy_tests([policies], engines="both", opa=opa_binary())
    assert list(failed(report)) == ["x_cases/looping"]


def test_opa_alone_is_ended_as_well_and_names_the_row(policies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require("opa")
    monkeypatch.setattr(opa, "_EVALUATING_S", 0.4)
    report = run_policy_tests([policies], engines="opa", opa=opa_binary())
    assert list(failed(report)) == ["x_cases/looping"]
    assert "OPA took more than" in failed(report)["x_cases/looping"].message


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    path = tmp_path / "ledger.db"
    old = tmp_path / "old"
    old.mkdir()
    (old / "x.rego").write_text(
        'package policies.x\n\nimport data.fumehood.call\n\npermit if call.tool in {"loop", "read"}\n'
    )
    with Guard(str(old), ledger=path, isolation="thread") as guard, guard.session():
        for n in (100_000, 100_001):
            guard.call("loop", {"n": n}, run=lambda n: n)
        guard.call("read", {"n": 1}, run=lambda n: n)
    return str(path)


def test_replay_goes_on_behind_a_call_that_is_never_decided(
    fumehood: Shell, policies: str, ledger: str
) -> None:
    said = fumehood("policy", "replay", policies, "--ledger", ledger, "--json")
    assert said.code == 0
    found = json.loads(said.out)
    assert found["counts"] == {"tightened": 2, "same": 1} | dict.fromkeys(
        [name for name in found["counts"] if name not in ("tightened", "same")], 0
    )
    assert "pdp_timeout" in said.out


def test_replay_ends_where_call_after_call_is_never_decided(
    fumehood: Shell, policies: str, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_MOST_ENDED", 2)
    said = fumehood("policy", "replay", policies, "--ledger", ledger)
    assert said.code == 3
    assert "take too long" in said.err and "'loop'" in said.err


def test_process_that_evaluates_ends_soon_after_its_parent_was_killed(policies: str) -> None:
    code = (
        "import sys; from fumehood.workbench import engines; engines.DECIDING_S = 0.9;"
        "from fumehood.workbench.explain import Explainer;"
        "from fumehood.workbench.call_input import document_from;"
        "found = Explainer([sys.argv[1]]); print(found._engine._process.process.pid, flush=True);"
        "found.decide(document_from({'tool': 'loop', 'args': {'n': 100000}}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, policies], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    clock = (~child << 3) | 2  # see clock_getcpuclockid(3)
    begun = time.clock_gettime(clock)
    while time.clock_gettime(clock) < begun + 0.2:  # it evaluates
        time.sleep(0.01)
    assert _state(child) == "R"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 60
    while (state := _state(child)) not in ("", "Z") and time.monotonic() < until:
        time.sleep(0.02)
    assert state in ("", "Z")


def _state(pid: int) -> str:
    """The state of a process as /proc says it, "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_many_rules_take_no_time_from_the_first_decision(tmp_path: Path) -> None:
    rule = 'permit if {{\n\tcall.tool == "t{n}"\n\tis_number(call.args.n)\n\tcall.args.n > {n}\n}}\n'
    text = "package policies.x\n\nimport data.fumehood.call\n\n" + "\n".join(
        rule.format(n=n) for n in range(600)
    )
    (tmp_path / "x.rego").write_text(text)
    decision = Explainer([str(tmp_path)]).decide(document_from({"tool": "t7", "args": {"n": 8}}))
    assert decision.is_permit
