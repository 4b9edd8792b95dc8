"""`fumehood policy new|check|test` in a shell: options, exit codes, formats, completion."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from host import opa_binary, require
from workbench.tables import CASES, POLICY, folder

from fumehood.cli.policy import policy
from fumehood.cli.root import root
from fumehood.pdp import gate, load_bundle, sources
from fumehood.workbench.watch import changes, folders_of

WRONG = CASES.replace("effect: deny", "effect: ask")


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(policy, [str(a) for a in arguments], env=env)


# --- new ---


def test_new_says_what_it_wrote_and_what_comes_next(tmp_path: Path) -> None:
    where = tmp_path / "refunds"
    result = run("new", where)
    assert result.exit_code == 0
    names = ["refunds.rego", "refunds_test.rego", "refunds_cases.yaml"]
    assert result.output.splitlines()[:3] == [f"{where}/{name}" for name in names]
    assert f"fumehood policy check {where}" in result.output
    assert "fumehood policy check '" in run("new", tmp_path / "two words").output
    assert run("test", where, "--mutate").exit_code == 0
    refused = run("check", where)
    assert refused.exit_code == 3
    assert "4 problems" in refused.output


def test_new_refuses_what_it_cannot_do_and_writes_nothing(tmp_path: Path) -> None:
    assert run("new", folder(tmp_path / "full")).exit_code == 2
    for more in (("--name", "a b"), ("--tools", "no.such:x"), ("--tools", "x"), ("--tools", "./no.json")):
        assert run("new", tmp_path / "empty", *more).exit_code == 2
    said = run("new", tmp_path / "empty", "--tools", "x", "--json")
    assert json.loads(said.output)["ok"] is False
    assert not (tmp_path / "empty").exists()
    said = run("new", tmp_path / "b", "--name", "mine", "--json")
    assert json.loads(said.output)["files"][0] == "mine.rego"


def test_what_a_module_of_tools_prints_is_not_in_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noisy_tools.py").write_text("print('noise')\n\n\ndef pay(amount: int) -> None: ...\n")
    monkeypatch.chdir(tmp_path)
    said = run("new", tmp_path / "a", "--tools", "noisy_tools:pay", "--json")
    assert json.loads(said.stdout)["ok"] is True
    assert "noise" in said.stderr


# --- check ---


def test_warnings_refuse_only_where_they_are_to_count(tmp_path: Path) -> None:
    where = folder(tmp_path, policy=POLICY + "\n_x if call.kind == 1\n")
    result = run("check", where)
    assert (result.exit_code, "warning: `_x` is never used" in result.output) == (0, True)
    assert "ok: policies.pay (1 warning)" in result.output
    strict = run("check", "--strict", where)
    assert strict.exit_code == 3
    assert "the policies cannot be used: 1 warning" in strict.output
    said = json.loads(run("check", "--json", where).output)
    assert said["ok"] is True
    assert [(p["code"], p["severity"]) for p in said["problems"]] == [("unused-rule", "warning")]
    assert json.loads(run("check", "--json", "--strict", where).output)["ok"] is False


def test_check_takes_schemas_from_a_file(tmp_path: Path) -> None:
    tools = tmp_path / "mine.json"
    tools.write_text('{"tool_schemas": {"pay": {"schema": {"properties": {"amout": {}}}}, "read": {}}}')
    result = run("check", folder(tmp_path / "p"), "--tools", tools)
    assert result.exit_code == 3
    assert 'no tool in reach (pay) has an argument `amount`; did you mean "amout"?' in result.output


def test_opa_that_cannot_be_run_is_said(tmp_path: Path) -> None:
    where = folder(tmp_path / "p")
    assert run("check", where, "--opa", "/nowhere/opa").exit_code == 2
    assert run("test", where, "--engine", "both", "--opa", "/nowhere/opa").exit_code == 2
    fake = tmp_path / "opa"
    fake.write_text("#!/bin/sh\necho garbage\nexit 7\n")
    fake.chmod(0o755)
    result = run("test", where, "--engine", "opa", "--opa", fake)
    assert (result.exit_code, "opa test failed" in result.output) == (2, True)
    assert run("check", where, "--opa", fake).exit_code == 2
    fake.write_text('#!/bin/sh\necho \'{"errors": "x"}\'\n')
    assert run("test", where, "--engine", "opa", "--opa", fake).exit_code == 2


# --- test ---


def test_output_is_in_the_lines_of_opa_test(tmp_path: Path) -> None:
    where = folder(tmp_path, cases=WRONG)
    result = run("test", where)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == f"{where}/pay_cases.yaml:"
    assert lines[1:3] == ["pay_cases/large: FAIL", f"  {where}/pay_cases.yaml:10"]
    assert lines[-3:] == ["-" * 80, "PASS: 2/3", "FAIL: 1/3"]
    assert "pay_cases/small and named: PASS" in run("test", "-v", where).output


def test_json_has_every_part_of_a_failure(tmp_path: Path) -> None:
    result = run("test", "--format", "json", "--coverage", "--mutate", folder(tmp_path, cases=WRONG))
    said = json.loads(result.output)
    assert set(said) == {"ok", "tests", "mutants", "coverage"}
    assert said["ok"] is False
    (bad,) = [row for row in said["tests"] if row["outcome"] == "fail"]
    assert set(bad["details"]) == {"input", "decided", "diff", "decided_by"}
    assert bad["details"]["decided"]["effect"] == "deny"
    assert set(said["coverage"]) == {"files", "covered_lines", "not_covered_lines", "coverage"}


def test_coverage_json_has_the_keys_of_opa(tmp_path: Path) -> None:
    require("opa")
    tests = "package policies.pay_test\n\ntest_a if not data.policies.pay.permit with input as {}\n"
    where = folder(tmp_path, cases="", pay_test_dot_rego=tests)
    ours = json.loads(run("test", "--json", "--coverage", where).output)["coverage"]
    import fumehood_policies

    command = [str(opa_binary()), "test", "--coverage", "--format", "json", str(where)]
    theirs = json.loads(subprocess.check_output([*command, str(fumehood_policies.LIBRARY)]))
    assert set(ours) <= set(theirs)
    file = f"{where}/pay.rego"
    assert set(ours["files"][file]) <= set(theirs["files"][file])
    assert ours["files"][file]["not_covered"][0].keys() == {"start", "end"}


def test_junit_is_xml_that_nothing_in_a_policy_can_break(tmp_path: Path) -> None:
    hostile = WRONG.replace("name: large", 'name: "]]>&\\u202e<x a=\\"1\\">\\n\\e[31m"')
    result = run("test", "--format", "junit", folder(tmp_path, cases=hostile))
    assert result.exit_code == 1
    tree = ElementTree.fromstring(result.output)
    assert (tree.get("tests"), tree.get("failures")) == ("3", "1")
    failure = tree.find(".//failure")
    assert failure is not None
    assert "+effect: deny" in str(failure.text)
    assert not set(result.output) & {"\x1b", "\u202e"}


def test_hostile_table_is_shown_inert(tmp_path: Path) -> None:
    table = (
        'cases:\n  - name: "\\e[31m\\u202e"\n    input: {tool: "\\e]0;x", args: {"\\u202e": 1}}\n'
        "    expect: {effect: ask}\n"
    )
    for arguments in (["test"], ["test", "-v", "-m"], ["test", "--json"]):
        shown = run(*arguments, folder(tmp_path / "p", cases=table))
        assert shown.exit_code == 1
        assert not set(shown.output) & {"\x1b", "\u202e", "\x9b"}


def test_threshold_is_a_failure_of_its_own(tmp_path: Path) -> None:
    where = folder(tmp_path)
    assert run("test", where, "--threshold", "90").exit_code == 0
    result = run("test", where, "--threshold", "100")
    assert (result.exit_code, "less than 100.00%" in result.output) == (1, True)
    assert "not covered: 29" in result.output
    assert run("test", where, "--threshold", "101").exit_code == 2
    assert run("test", where, "--threshold", "1", "--engine", "opa").exit_code == 2


def test_no_test_is_a_failure_only_where_it_is_asked_for(tmp_path: Path) -> None:
    where = folder(tmp_path, cases="")
    result = run("test", where)
    assert (result.exit_code, result.output) == (0, "no tests were found\n")
    assert run("test", where, "--fail-on-empty").exit_code == 1
    assert run("test", where, "--run", "x").exit_code == 2
    assert run("test", folder(tmp_path), "--fail-on-empty").exit_code == 0


def test_table_that_cannot_be_read_is_exit_three_with_its_line(tmp_path: Path) -> None:
    result = run("test", folder(tmp_path, cases="cases:\n  - nme: x\n"))
    assert result.exit_code == 3
    assert "pay_cases.yaml:2:5: `nme` is no field here" in result.output


def test_changes_are_seen_once_the_files_are_at_rest(tmp_path: Path) -> None:
    file = tmp_path / "a.rego"
    steps = iter(["1", "", "22", "333", "", "", "4444", "", ""])

    def pause() -> None:
        if text := next(steps):
            file.write_text(text)

    seen = [file.read_text() if file.exists() else None for _ in islice(changes([tmp_path], pause=pause), 4)]
    assert seen == [None, "1", "333", "4444"]


def test_changes_of_a_bundle_and_of_signatures_are_seen(tmp_path: Path) -> None:
    bundle, signatures = tmp_path / "b.tar.gz", tmp_path / ".signatures.json"
    bundle.write_text("")
    steps = iter([lambda: bundle.write_text("22"), None, lambda: signatures.write_text("1"), None])

    def pause() -> None:
        if step := next(steps):
            step()

    each = folders_of([str(bundle), f"{tmp_path}/", "model-file"])
    assert len(list(islice(changes(each[:1], pause=pause), 2))) == 2
    assert len(list(islice(changes(each[1:], pause=pause), 2))) == 2
    assert each[2].is_dir()


def test_watching_runs_again_and_ends_at_an_interrupt(tmp_path: Path) -> None:
    where = folder(tmp_path / "p")
    main = "import sys; from fumehood.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", main, "policy", "test", "--watch", str(where)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "PASS: 3/3\n"
            (where / "pay_cases.yaml").write_text("cases: 3\n")  # cannot be read: waited for
            (where / "pay_cases.yaml").write_text(CASES.split("  - name: large")[0])
            assert child.stdout.readline() == "PASS: 2/2\n"
            child.send_signal(signal.SIGINT)
            assert child.wait(20) == 130
        finally:
            child.kill()


# --- completion ---


def completions(*words: str) -> list[str]:
    incomplete = words[-1]
    shell = ShellComplete(root, {}, "fumehood", "_FUMEHOOD_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), incomplete)]


def test_options_choices_and_packs_are_completed() -> None:
    assert set(completions("policy", "")) >= {"new", "check", "test"}
    assert set(completions("policy", "test", "--")) >= {"--mutate", "--watch", "--engine", "--threshold"}
    assert completions("policy", "test", "--engine", "") == ["embedded", "opa", "both"]
    assert completions("policy", "test", "--format", "j") == ["json", "junit"]
    assert "refund" in completions("policy", "check", "ref")


def test_every_option_has_help() -> None:
    for name in ("new", "check", "test"):
        for parameter in policy.commands[name].params:
            assert not isinstance(parameter, click.Option) or parameter.help


@pytest.mark.parametrize("verb", ["new", "check", "test"])
def test_help_fits_a_terminal(verb: str) -> None:
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 80


def test_check_inspects_the_policies_once_and_says_their_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspected = []

    def counted(read: sources.Files, **how: object) -> gate.Verdict:
        inspected.append(read)
        return whole(read, **how)  # type: ignore[arg-type]

    whole = gate.inspect
    monkeypatch.setattr(gate, "inspect", counted)
    where = folder(tmp_path)
    said = json.loads(run("check", where, "--json").stdout)
    assert len(inspected) == 1
    assert said["revision"] == load_bundle([where]).revision
