"""Running tables: what a failure shows, mutations, coverage, and both engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from host import opa_binary, require
from workbench.tables import CASES, POLICY, failed, folder, row

from fumehood.errors import ConfigError
from fumehood.pdp.sources import PolicyFile
from fumehood.pdp.syntax import Module, module_of
from fumehood.workbench import run_policy_tests
from fumehood.workbench.answers import Answer
from fumehood.workbench.coverage import coverage_of
from fumehood.workbench.mutate import mutants_of
from fumehood.workbench.opa import OpaJudge

BOUNDS = "\tis_number(call.args.amount)\n\tcall.args.amount > 0\n\tcall.args.amount <= 100\n"
LOOSE = POLICY.replace(BOUNDS, "")


def test_rows_pass_and_their_names_are_their_files(tmp_path: Path) -> None:
    report = run_policy_tests([str(folder(tmp_path))])
    assert [r.name for r in report.results] == [
        "pay_cases/small and named",
        "pay_cases/small and unknown",
        "pay_cases/large",
    ]
    assert report.is_ok


def test_failure_shows_input_diff_and_the_definition_that_decided(tmp_path: Path) -> None:
    wrong = CASES.replace("effect: deny", "effect: ask")
    report = run_policy_tests([str(folder(tmp_path, cases=wrong))])
    (bad,) = failed(report).values()
    assert bad.line == 10
    assert '"amount": 400' in bad.message
    assert "-effect: ask\n+effect: deny" in bad.message
    assert f"{tmp_path}/pay.rego:22: policies.pay.deny" in bad.message
    assert "22  deny contains" in bad.message
    assert "never there" not in bad.message  # the other definition of the same rule did not speak
    assert bad.details is not None
    assert bad.details["decided_by"] == [
        {"rule": "policies.pay.deny", "file": f"{tmp_path}/pay.rego", "line": 22, "held": True}
    ]


def test_a_row_that_asks_does_not_pass_as_permitted(tmp_path: Path) -> None:
    wrong = CASES.replace("effect: ask, reasons: [not named by the user]", "effect: permit")
    (bad,) = failed(run_policy_tests([str(folder(tmp_path, cases=wrong))])).values()
    assert "-effect: permit\n+effect: ask" in bad.message


def test_where_nothing_permits_the_permits_that_did_not_hold_are_shown(tmp_path: Path) -> None:
    cases = CASES.replace("amount: 40}", "amount: -1}")
    rows = failed(run_policy_tests([str(folder(tmp_path, cases=cases))]))
    message = rows["pay_cases/small and named"].message
    assert "what did not hold:" in message
    assert "pay.rego:9: policies.pay.permit" in message
    assert "pay.rego:18" not in message  # another tool's


def test_only_those_that_match_run(tmp_path: Path) -> None:
    report = run_policy_tests([str(folder(tmp_path))], only="cases/large$")
    assert [r.name for r in report.results] == ["pay_cases/large"]
    with pytest.raises(ConfigError, match="regular expression"):
        run_policy_tests([str(folder(tmp_path))], only="(")


def test_mutations_find_the_bound_that_stands_only_in_deny(tmp_path: Path) -> None:
    assert run_policy_tests([str(folder(tmp_path / "good"))], mutates=True).is_ok
    report = run_policy_tests([str(folder(tmp_path / "bad", policy=LOOSE))], mutates=True)
    assert report.mutants == 19
    # In Rego's order null is less than every number and a text is more: only a text is still denied.
    found = failed(report)
    assert {f"pay_cases/large [/amount {how}]" for how in ("removed", "nulled", "negated")} <= set(found)
    assert "deny becomes ask where /amount is absent" in found["pay_cases/large [/amount removed]"].message


def test_a_call_that_is_asked_about_only_while_it_is_trusted_is_found(tmp_path: Path) -> None:
    policy = POLICY.replace("not _is_trusted", "_is_trusted")  # the wrong way round
    cases = CASES.split("  - name: small and unknown")[0].replace("effect: permit", "effect: ask")
    cases = cases.replace("\n      obligations: [{type: limit, max: 3}]", "")
    report = run_policy_tests([str(folder(tmp_path, policy=policy, cases=cases))], mutates=True)
    assert "pay_cases/small and named [/amount untraced]" in failed(report)


ALLOW = "    allow: [{at: /amount, mutation: %s, because: it is free then}]\n"


def test_allowed_mutations_pass_and_those_that_loosen_nothing_are_to_be_deleted(tmp_path: Path) -> None:
    every = "".join(
        f"      - {{at: /amount, mutation: {m}, because: it is free then}}\n"
        for m in ("removed", "nulled", "negated", "retyped")
    )
    bad = folder(tmp_path / "a", policy=LOOSE, cases=CASES + "    allow:\n" + every)
    assert run_policy_tests([str(bad)], mutates=True).is_ok
    good = folder(tmp_path / "b", cases=CASES + ALLOW % "nulled")
    assert run_policy_tests([str(good)]).is_ok
    (bad,) = failed(run_policy_tests([str(good)], mutates=True)).values()
    assert (bad.name, bad.line) == ("pay_cases/large [/amount nulled]", 13)
    assert "delete the line" in bad.message


@pytest.mark.parametrize("reason", ["''", "3", "null"])
def test_an_allowance_needs_a_reason(tmp_path: Path, reason: str) -> None:
    cases = CASES + (ALLOW % "nulled").replace("it is free then", reason)
    with pytest.raises(ConfigError, match=r"pay_cases\.yaml:13"):
        run_policy_tests([str(folder(tmp_path, cases=cases))])


def test_mutants_change_one_thing_and_leave_the_case_alone(tmp_path: Path) -> None:
    from fumehood.pdp import sources
    from fumehood.workbench.cases import cases_of

    text = (
        "cases:\n  - name: a\n    input: {tool: t, args: {n: 5, s: /a, l: [1, {x: y}], b: true, z: null},"
        " origins: {/n: user, /l/0: user}}\n    expect: {effect: deny}\n"
    )
    (case,), problems = cases_of(sources.read([str(folder(tmp_path, cases=text))]).files)
    assert problems == []
    before = json.dumps(case.document)
    mutants = mutants_of(case)
    assert json.dumps(case.document) == before
    assert {m.at for m in mutants} == {"/n", "/s", "/l", "/b", "/z", "/l/0", "/l/1", "/l/1/x"}
    kinds = {"removed", "nulled", "retyped", "untraced"}
    assert {m.mutation for m in mutants if m.at == "/n"} == kinds | {"negated"}
    assert {m.mutation for m in mutants if m.at == "/l"} == kinds
    assert all(json.dumps(m.document) != before for m in mutants)
    gone = next(m for m in mutants if (m.at, m.mutation) == ("/s", "removed"))
    assert "/s" not in json.dumps(gone.document["context"])  # its path form is gone as well


def test_what_the_tool_takes_anyway_is_no_hostile_type(tmp_path: Path) -> None:
    from fumehood.pdp import sources
    from fumehood.workbench.cases import cases_of
    from fumehood.workbench.tools import ToolSchema

    files = sources.read([str(folder(tmp_path, cases=row("{tool: t, args: {l: x, n: 1}}")))]).files
    tool = ToolSchema("t", {"properties": {"l": {"type": "array"}, "n": {"type": "number"}}})
    (case,), _ = cases_of(files, [tool])
    args = [m.document["action"]["properties"]["args"] for m in mutants_of(case) if m.mutation == "retyped"]  # type: ignore[index,call-overload]
    assert args == [{"l": 0, "n": 1}, {"l": {"value": "x"}, "n": 1}] + [
        {"l": "x", "n": n} for n in ("1", [1], True)
    ]


def test_forms_of_a_recorded_call_are_worked_out_anew_where_it_is_changed(tmp_path: Path) -> None:
    from fumehood.pdp import sources
    from fumehood.workbench.cases import cases_of

    text = row("{tool: t, args: {a: x, b: /b}, context: {normalised: {paths: {/a: /cwd/x, /b: /b}}}}")
    (case,), _ = cases_of(sources.read([str(folder(tmp_path, cases=text))]).files)
    forms = {(m.at, m.mutation): m.document["context"]["normalised"] for m in mutants_of(case)}  # type: ignore[index,call-overload]
    assert forms["/b", "removed"]["paths"] == {"/a": "/cwd/x"}
    assert forms["/a", "nulled"]["paths"] == {"/b": "/b"}


def test_coverage_is_of_policy_lines_and_in_the_shape_of_opa(tmp_path: Path) -> None:
    report = run_policy_tests([str(folder(tmp_path))], covers=True)
    assert report.coverage is not None
    said = report.coverage.as_json()
    (file,) = said["files"].values()  # type: ignore[union-attr,call-arg]
    assert set(said) == {"files", "covered_lines", "not_covered_lines", "coverage"}
    assert file["not_covered"] == [{"start": {"row": 29}, "end": {"row": 29}}]
    assert 0 < said["coverage"] < 100  # type: ignore[operator]
    covered = run_policy_tests([str(folder(tmp_path, x_test_dot_rego=TEST_EVIL))], covers=True).coverage
    assert covered is not None
    assert covered.percent == 100
    assert list(covered.as_json()["files"]) == [f"{tmp_path}/pay.rego"]  # type: ignore[arg-type]


TEST_EVIL = """package policies.pay_test

import data.policies.pay

test_evil if pay.deny with input as {
	"action": {"name": "execute_tool", "properties": {"args": {"to": "evil"}}},
	"resource": {"type": "tool", "id": "pay"},
}
"""


def test_both_engines_say_the_same_of_rules_rows_and_mutants(tmp_path: Path) -> None:
    require("opa")
    where = folder(tmp_path, x_test_dot_rego=TEST_EVIL)
    for engines in ("opa", "both"):
        report = run_policy_tests([str(where)], engines=engines, opa=opa_binary(), mutates=True)  # type: ignore[arg-type]
        assert report.is_ok, failed(report)
        assert next(r.name for r in report.results) == "data.policies.pay_test.test_evil"
    bad = str(folder(tmp_path / "l", policy=LOOSE))
    loose = run_policy_tests([bad], engines="opa", opa=opa_binary(), mutates=True)
    assert "(opa)" in failed(loose)["pay_cases/large [/amount removed]"].message


def test_one_row_with_an_error_hides_no_other(tmp_path: Path) -> None:
    require("opa")
    policy = POLICY.replace("call.args.to ==", "abs(call.args.to) == 1\n\tcall.args.to ==")
    cases = CASES + "  - name: odd\n    input: {tool: pay, args: {to: evil}}\n    expect: {effect: deny}\n"
    report = run_policy_tests(
        [str(folder(tmp_path, policy=policy, cases=cases))], engines="both", opa=opa_binary()
    )
    assert report.is_ok, failed(report)


def test_engines_that_disagree_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("opa")
    where = str(folder(tmp_path, x_test_dot_rego=TEST_EVIL))
    right = OpaJudge.answers
    monkeypatch.setattr(OpaJudge, "answers", lambda self, documents: right(self, documents[::-1]))
    rows = failed(run_policy_tests([where], engines="both", opa=opa_binary()))
    assert set(rows) == {"pay_cases/small and named", "pay_cases/large"}
    assert "the engines disagree" in rows["pay_cases/large"].message


def test_without_the_binary_opa_is_an_error_and_the_rest_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("FUMEHOOD_OPA", raising=False)
    where = str(folder(tmp_path / "p"))
    with pytest.raises(ConfigError, match="no opa binary"):
        run_policy_tests([where], engines="both")
    with pytest.raises(ConfigError, match="cannot be run"):
        run_policy_tests([where], engines="opa", opa="/nowhere/opa")
    assert run_policy_tests([where], mutates=True, covers=True).is_ok


def test_of_many_definitions_the_ones_that_spoke_are_found_in_a_few_tries(tmp_path: Path) -> None:
    head = "\n# METADATA\n# title: n\n"
    one = head + 'deny contains "number %s" if {\n\tcall.tool == "%s"\n\tcall.args.n == %s\n}'
    many = "\n".join(one % (n, "pay" if n % 2 else "other", n % 30) for n in range(40)) + "\n"
    text = "cases:\n  - name: a\n    input: {tool: pay, args: {n: 7}}\n    expect: {effect: permit}\n"
    (bad,) = failed(run_policy_tests([str(folder(tmp_path, policy=POLICY + many, cases=text))])).values()
    assert bad.details is not None
    lines = [one["line"] for one in bad.details["decided_by"]]  # type: ignore[union-attr,index,call-overload]
    source = (tmp_path / "pay.rego").read_text().split("\n")
    said = [source[line - 1][:25] for line in lines]
    assert said == ['deny contains "number 7" ', 'deny contains "number 37"']


def test_engines_that_disagree_about_a_variant_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("opa")
    right = OpaJudge.answers

    def odd(self: OpaJudge, documents: list[dict[str, Any]]) -> list[Answer]:
        found = right(self, documents)
        args = [document["action"]["properties"]["args"] for document in documents]
        return [
            Answer("deny", ({"reason": "odd"},)) if a == {} else f for a, f in zip(args, found, strict=True)
        ]

    monkeypatch.setattr(OpaJudge, "answers", odd)
    where = str(folder(tmp_path, cases=CASES.split("  - name: small and unknown")[0]))
    report = run_policy_tests([where], engines="both", opa=opa_binary(), mutates=True)
    assert set(failed(report)) == {"pay_cases/small and named [/amount removed]"}


def test_as_many_decisions_come_back_as_were_asked_for(tmp_path: Path) -> None:
    fake = tmp_path / "opa"
    fake.write_text(
        '#!/bin/sh\n[ "$1" = test ] && echo "[]" || echo \'{"result": [{"bindings": {"x": []}}]}\'\n'
    )
    fake.chmod(0o755)
    with pytest.raises(ConfigError, match="0 decisions about 3 inputs"):
        run_policy_tests([str(folder(tmp_path / "p"))], engines="opa", opa=str(fake))


def test_what_the_guard_would_not_send_is_denied_here_as_well(tmp_path: Path) -> None:
    from fumehood.pdp import sources
    from fumehood.workbench.completing import completed
    from fumehood.workbench.judge import EmbeddedJudge, gated

    judge = EmbeddedJudge(gated(sources.read([str(folder(tmp_path))])))
    small, large = (completed({"tool": "read", "args": {"a": "x" * n}}, {}) for n in (1, 1 << 20))
    answers = judge.answers([small, large, small])
    assert [answer.effect for answer in answers] == ["permit", "deny", "permit"]
    assert answers[1].reasons[0]["code"] == "pdp_input_too_large"


def test_one_line_of_many_that_is_missing_is_not_rounded_away() -> None:
    report = json.dumps(
        {"files": [{"path": "a", "covered": list(range(1, 50_000)), "not_covered": [50_000]}]}
    )
    module = module_of(PolicyFile("a", "a", "package policies.a\n\npermit if true\n", "p"))
    assert isinstance(module, Module)
    assert coverage_of([report], [module], known=report).percent == 99.99
    assert coverage_of([], [module], known=report).percent == 0
    assert coverage_of([], [module], known='{"files": []}').files[0].missed == (3,)


def test_file_of_which_nothing_was_asked_is_not_covered(tmp_path: Path) -> None:
    where = folder(
        tmp_path,
        other_dot_rego='package policies.other\n\npermit_connect if input.context.connect.host == "a"\n',
        functions_dot_rego="package policies.pay\n\n_f(x) := x + 1\n",
    )
    report = run_policy_tests([str(where)], covers=True)
    assert report.is_ok and report.coverage is not None
    by_name = {Path(file.path).name: file for file in report.coverage.files}
    assert by_name["other.rego"].missed == (3,) and by_name["functions.rego"].missed == (3,)
    assert by_name["pay.rego"].covered and report.coverage.percent < 100
    (tmp_path / "pay_cases.yaml").unlink()
    report = run_policy_tests([str(where)], covers=True)
    assert report.results == () and report.coverage is not None and report.coverage.percent == 0
