"""`fumehood policy eval` and `explain`, as a policy's author types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fumehood import Denied, Guard
from fumehood.cli.root import root
from fumehood.errors import BindError
from fumehood.workbench.call_input import document_from

LARGE = '{"tool": "issue_refund", "args": {"order_id": "A-1", "amount_usd": 5000}}'
ARGS = '"args": {"order_id": "A-1", "amount_usd": 5}'
SMALL = f'{{"tool": "issue_refund", {ARGS}, "origins": {{"/amount_usd": "user", "/order_id": "user"}}}}'


def run(*args: str, given: str | None = None) -> Result:
    return CliRunner().invoke(root, ["policy", *args], input=given)


def test_denied_call_ends_with_1_and_says_why() -> None:
    result = run("eval", "refund", given=LARGE)
    assert result.exit_code == 1
    assert "refunds above $1,000 are never automatic  [policies.refunds.deny]" in result.stdout


def test_permitted_call_ends_with_0() -> None:
    result = run("eval", "refund", "--json", given=SMALL)
    assert (result.exit_code, json.loads(result.stdout)["decision"]["effect"]) == (0, "permit")


def test_asked_call_says_ask() -> None:
    result = run("eval", "refund", given=SMALL.replace('"user"', '"untrusted"'))
    assert result.exit_code == 0
    assert result.stdout.startswith("ASK")


def test_explanation_names_file_line_condition_value_and_remedy() -> None:
    text = run("explain", "refund", given=LARGE).stdout
    assert "- call.args.amount_usd <= 1000  refunds.rego:24:2" in text
    assert "call.args.amount_usd is 5000" in text
    assert "to hold: call.args.amount_usd must be at most 1000" in text


def test_explanation_for_a_program_has_the_same() -> None:
    said = json.loads(run("explain", "refund", "--json", given=LARGE).stdout)
    permit = next(r for r in said["rules"] if r["rule"] == "policies.refunds.permit" and r["conditions"] == 4)
    assert (permit["outcome"], permit["conditions_held"]) == ("stopped", 3)
    assert permit["reached"][-1]["values"][0]["values"] == [5000]
    assert said["decision"]["effect"] == "deny"


def test_far_rules_are_counted_and_shown_with_v() -> None:
    assert (
        "of which not even the first condition holds; -v shows them"
        in run("explain", "refund", given=LARGE).stdout
    )
    assert "Not near" in run("explain", "refund", "-v", given=LARGE).stdout


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    path = tmp_path / "ledger.db"
    with Guard("refund", ledger=path, isolation="thread", unattended="deny") as guard:
        with guard.session(agent="bot"), pytest.raises(Denied):
            guard.call(
                "issue_refund", {"order_id": "A-1", "amount_usd": 5000}, run=lambda order_id, amount_usd: 1
            )
    return str(path)


def test_recorded_call_is_explained_by_its_number(ledger: str) -> None:
    seq = next(e for e in _events(ledger) if e["kind"] == "decision")["seq"]
    result = run("explain", "refund", "--call", str(seq), "--ledger", ledger)
    assert result.exit_code == 0
    assert "call.args.amount_usd is 5000" in result.stdout


def _events(ledger: str) -> list[dict[str, Any]]:
    lines = CliRunner().invoke(root, ["trace", "export", "--ledger", ledger]).stdout.splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("call", ["9999", "abcd", "9" * 30, "0"])
def test_unknown_call_is_refused(ledger: str, call: str) -> None:
    result = run("explain", "refund", "--call", call, "--ledger", ledger)
    assert type(result.exception).__name__ == "UnknownIdError"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "not valid JSON"),
        ("[]", "a call is a JSON object"),
        ('{"tool": "x", "agrs": {}}', 'did you mean "args"'),
        ('{"args": {}}', "no tool is named"),
        ('{"tool": 3}', "/resource/id"),
        ('{"tool": "x", "args": []}', "args is an object such as"),
        ('{"tool": "x", "phase": "run"}', "it is one of"),
        ('{"tool": "x", "origins": {"/a": "heaven"}}', "/context/provenance"),
        ('{"tool": "x", "context": 5}', "context is an object"),
        ('{"tool": "x", "resource": {"id": "y"}}', "the tool is given twice"),
        ('{"tool": "x", "args": {}, "action": {"properties": {"args": {}}}}', "given twice"),
        ('{"tool": "x", "context": {"session": null}}', "/context"),
        ('{"tool": "x", "subject": {"nam": 3}}', "/subject/nam"),
        ('{"tool": "x", "tool": "y"}', "not valid JSON"),
        ('{"tool": "x", "args": {"a": NaN}}', "not valid JSON"),
        ("[" * 5000, "not valid JSON"),
        ('{"tool": "x", "args": {"a": "%s"}}' % ("x" * (1 << 20)), "over 1048576 bytes"),
        ('{"tool": "x", "args": {"a": "\\ud800"}}', "surrogate"),
        ('{"tool": "x", "args": {"a": 18446744073709551616}}', "/a"),
    ],
    ids=lambda text: text[:30],
)
def test_call_that_is_not_understood_says_where(given: str, words: str) -> None:
    error = run("eval", "refund", given=given).exception
    assert isinstance(error, BindError)
    assert words in str(error)


def test_policies_that_cannot_be_used_are_refused() -> None:
    said = run("eval", "no-such-pack", given=LARGE)
    assert said.exit_code == 2 and "there is no pack" in said.stderr


def test_call_and_input_exclude_each_other(ledger: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(LARGE)
    result = run("eval", "refund", "-i", str(tmp_path / "c.json"), "--call", "1", "--ledger", ledger)
    assert result.exit_code == 2


def test_hostile_argument_reaches_no_terminal() -> None:
    given = json.dumps({"tool": "issue_refund", "args": {"amount_usd": "\x1b[2J\u202e"}})
    assert "\x1b" not in run("explain", "refund", given=given).stdout
    assert "⟨U+202E⟩" in run("explain", "refund", given=given).stdout


def test_fragment_keeps_what_is_given_and_normalises_arguments() -> None:
    found: Any = document_from(
        {
            "tool": "cat",
            "args": {"p": "/srv/../etc"},
            "subject": {"id": "bot"},
            "context": {"time": "2026-01-01T00:00:00Z"},
        }
    )
    assert found["subject"] == {"type": "agent", "id": "bot", "properties": {"roles": []}}
    assert found["context"]["time"] == "2026-01-01T00:00:00Z"
    assert found["context"]["normalised"]["paths"] == {"/p": "/etc"}
    assert document_from(found) == found


def test_obligation_that_nobody_understands_is_a_denial_as_the_guards(tmp_path: Path) -> None:
    (tmp_path / "x.rego").write_text(
        'package policies.x\n\nimport data.fumehood.call\n\npermit if call.tool == "t"\n\n'
        'limit contains {"key": "k", "max": call.arg("n", 1), "per_s": 60} if call.tool == "t"\n'
    )
    for n, code, effect in ((-1, 1, "deny"), (1, 0, "permit")):
        call = json.dumps({"tool": "t", "args": {"n": n}})
        said = run("eval", f"{tmp_path}/", "--json", given=call)
        assert (said.exit_code, json.loads(said.stdout)["decision"]["effect"]) == (code, effect)
        said = run("explain", f"{tmp_path}/", given=call)
        assert ("unknown_obligation" in said.stdout) is (n == -1)


def test_confinement_is_told_with_what_it_means_in_process(tmp_path: Path) -> None:
    (tmp_path / "x.rego").write_text(
        'package policies.x\n\nimport data.fumehood.call\n\npermit if call.tool == "t"\n\n'
        'confine contains "python-offline" if call.tool == "t"\n'
    )
    assert "cannot_confine" in run("eval", f"{tmp_path}/", given='{"tool": "t"}').stdout
    assert "cannot_confine" not in run("eval", "refund", given='{"tool": "read_ticket"}').stdout
