"""`fumehood policy replay` of results: decided again where the record holds what a rule reads."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fumehood import Guard, Withheld
from fumehood.cli.root import root
from fumehood.errors import LedgerError
from fumehood.ledger import open_ledger
from fumehood.model import Decision, Phase, PolicyInput
from fumehood.pdp.thread import ThreadPdp
from fumehood.workbench import replay_run
from fumehood.workbench.recorded_results import RESULT, recorded_result

HEAD = 'package policies.shop\n\nimport data.fumehood.call\n\npermit if call.tool in {"read", "other"}\n\n'
NOTHING = HEAD
OLD = (
    HEAD
    + """withhold contains "secret" if {
	call.tool == "read"
	call.result.kind == "secret"
}

redact contains {"path": "/card"} if call.tool == "read"

label contains "internal" if call.tool == "read"
"""
)
Value = Any


def folder(path: Path, text: str) -> str:
    path.mkdir(exist_ok=True)
    (path / "shop.rego").write_text(text)
    return f"{path}/"


def recorded(tmp_path: Path, text: str, *results: Value, notes: dict[str, Any] | None = None) -> str:
    """A ledger in which a guard with the policies *text* has called `read` once for each of *results*."""
    ledger = tmp_path / "ledger.db"
    with Guard(folder(tmp_path / "old", text), ledger=ledger, isolation="thread") as guard:
        with guard.session(agent="bot"):
            for n, result in enumerate(results):
                with suppress(Withheld, ZeroDivisionError):
                    guard.call("read", {"n": n}, run=body(result), annotations=notes or {})
    return str(ledger)


def body(result: Value) -> Callable[[int], Value]:
    def run(n: int) -> Value:
        if isinstance(result, Exception):
            raise result
        return result

    return run


def run(tmp_path: Path, text: str, ledger: str, *more: str, where: str = "new") -> Result:
    policies = folder(tmp_path / where, text)
    return CliRunner().invoke(root, ["policy", "replay", policies, "--ledger", ledger, *more])


def counts(tmp_path: Path, text: str, ledger: str) -> dict[str, int]:
    said = json.loads(run(tmp_path, text, ledger, "--json").stdout)
    assert said["counts"]["same"] == said["calls"]
    return {change: n for change, n in said["result_counts"].items() if n}


MIXED = ({"kind": "secret"}, {"kind": "open", "card": "4711"}, ZeroDivisionError("x"), "text", None)


def test_same_policies_say_the_same_of_every_result(tmp_path: Path) -> None:
    ledger = recorded(tmp_path, OLD, *MIXED)
    result = run(tmp_path, OLD, ledger, "--fail-on", "changed", "--json", where="old")
    said = json.loads(result.stdout)
    assert (result.exit_code, said["results"], said["result_counts"]["same"]) == (0, 5, 5)


def test_result_that_was_withheld_and_would_be_released_ends_with_1(tmp_path: Path) -> None:
    result = run(tmp_path, NOTHING, recorded(tmp_path, OLD, {"kind": "secret"}))
    assert result.exit_code == 1
    assert "1 results that were withheld would now be RELEASED." in result.stdout
    assert "WIDENED: 1 × result of read   withhold → release" in result.stdout
    assert "before: withhold: secret (withheld_by_policy) [policies.shop.withhold]" in result.stdout


@pytest.mark.parametrize(
    ("rules", "change"),
    [
        ('withhold contains "x" if call.result.kind == "open"', "tightened"),
        ('withhold contains "x" if call.result.kind == "other"', "same"),
        ('withhold contains "x" if call.args.n == 0', "tightened"),
        ('withhold contains "x" if call.is_error', "same"),
        ('withhold contains "x" if input.subject.id == "bot"', "tightened"),
        ('redact contains {"path": "/kind"} if call.tool == "read"', "obligations"),
        ('label contains "trusted" if call.tool == "other"', "same"),
    ],
)
def test_result_that_is_recorded_is_decided_again(tmp_path: Path, rules: str, change: str) -> None:
    ledger = recorded(tmp_path, NOTHING, {"kind": "open", "card": "4711"})
    assert counts(tmp_path, HEAD + rules, ledger) == {change: 1}


READS = 'withhold contains "x" if call.result.card == "4711"'
UNREAD = 'withhold contains "x" if call.result.kind == "open"'


@pytest.mark.parametrize(
    ("result", "rules", "change"),
    [
        ({"kind": "open", "card": "4711"}, READS, "cannot tell"),  # a policy had redacted it
        ({"kind": "secret", "card": "4711"}, READS, "cannot tell"),  # it was withheld
        ({"kind": "secret", "card": "4711"}, UNREAD, "cannot tell"),
        ({"kind": "secret"}, 'withhold contains "x" if call.args.n == 0', "same"),
        (ZeroDivisionError("4711"), READS, "cannot tell"),  # what a tool raised is not recorded
        (ZeroDivisionError("4711"), 'withhold contains "x" if call.is_error', "tightened"),
        ({"kind": "open", "text": "x" * 70_000}, UNREAD, "cannot tell"),  # too long to be recorded
    ],
)
def test_rule_that_reads_what_is_not_recorded_cannot_be_told(
    tmp_path: Path, result: Value, rules: str, change: str
) -> None:
    assert counts(tmp_path, HEAD + rules, recorded(tmp_path, OLD, result)) == {change: 1}


def test_rule_that_reads_beside_what_a_policy_redacted_is_told(tmp_path: Path) -> None:
    ledger = recorded(tmp_path, OLD, {"kind": "open", "card": "4711"})
    assert counts(tmp_path, HEAD + UNREAD, ledger) == {"tightened": 1}


def test_part_of_a_result_that_looks_redacted_is_believed_where_nothing_was(tmp_path: Path) -> None:
    ledger = recorded(tmp_path, NOTHING, {"card": "[redacted]"})
    assert counts(tmp_path, HEAD + READS.replace("4711", "[redacted]"), ledger) == {"tightened": 1}


def test_secret_in_a_result_cannot_be_told_and_the_rest_can(tmp_path: Path) -> None:
    ledger = recorded(tmp_path, OLD, {"kind": "open", "password": "hunter22"})
    hidden = 'withhold contains "x" if call.result.password == "hunter22"'
    assert counts(tmp_path, HEAD + hidden, ledger) == {"cannot tell": 1}
    assert counts(tmp_path, HEAD + UNREAD, ledger) == {"tightened": 1}
    assert "hunter22" not in Path(ledger).read_bytes().decode(errors="replace")


def test_result_that_is_annotated_as_secret_cannot_be_told(tmp_path: Path) -> None:
    ledger = recorded(tmp_path, NOTHING, {"kind": "open"}, notes={"secret_result": ["/kind"]})
    assert counts(tmp_path, HEAD + UNREAD, ledger) == {"cannot tell": 1}


def test_time_is_that_of_the_decision_where_there_was_one(tmp_path: Path) -> None:
    rule = 'withhold contains "x" if {\n\tcall.tool == "read"\n\tstartswith(input.context.time, "2")\n}'
    assert counts(tmp_path, HEAD + rule, recorded(tmp_path, OLD, {"kind": "open"})) == {"tightened": 1}


def test_time_is_not_told_where_no_rule_could_apply(tmp_path: Path) -> None:
    rule = 'withhold contains "x" if {\n\tcall.tool == "read"\n\tstartswith(input.context.time, "2")\n}'
    assert counts(tmp_path, HEAD + rule, recorded(tmp_path, NOTHING, {"kind": "open"})) == {"cannot tell": 1}


def test_what_is_rebuilt_is_what_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    evaluate = ThreadPdp.evaluate

    def listening(pdp: ThreadPdp, document: PolicyInput, /) -> Decision:
        if document.phase is Phase.RETURN_RESULT:
            asked.append(json.loads(document.body))
        return evaluate(pdp, document)

    monkeypatch.setattr(ThreadPdp, "evaluate", listening)
    text = HEAD + 'label contains "internal" if call.tool == "read"'
    values = (
        {"a": [1, 2.5, {"b": None}]},
        "text",
        None,
        [],
        True,
        3,
        ZeroDivisionError("x"),
        {"kind": "é\u2028"},
    )
    book = open_ledger(recorded(tmp_path, text, *values), create=False, readonly=True)
    found = [recorded_result(json.loads(event.attributes), document) for event, document in book.outcomes()]
    book.close()
    assert len(found) == len(asked) == len(values)
    for one, content in zip(found, asked, strict=True):
        assert one is not None
        if RESULT in one.missing:
            assert content["action"]["properties"].pop("is_error") is True
            one.content["action"]["properties"].pop("is_error")
            del content["action"]["properties"]["result"]
        assert one.content == content


def test_decision_in_an_earlier_part_of_the_ledger_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = recorded(tmp_path, OLD, *MIXED)
    whole = run(tmp_path, NOTHING, ledger, "--json").stdout
    monkeypatch.setattr(replay_run, "_SPAN", 1)
    monkeypatch.setattr(replay_run, "_CHUNK", 1)
    assert json.loads(run(tmp_path, NOTHING, ledger, "--json", "--processes", "1").stdout) == json.loads(
        whole
    )
    assert json.loads(whole)["results"] == len(MIXED)


def test_observed_results_are_compared_as_if_they_had_been_enforced(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    with Guard(folder(tmp_path / "old", OLD), ledger=ledger, isolation="thread", mode="observe") as guard:
        with guard.session(agent="bot"):
            guard.call("read", {"n": 1}, run=body({"kind": "secret"}))
    result = run(tmp_path, NOTHING, str(ledger))
    assert "WIDENED: 1 × result of read   withhold → release" in result.stdout


def test_failure_of_the_engine_that_withheld_a_result_counts_as_widened(tmp_path: Path) -> None:
    text = HEAD + 'withhold contains "x" if {\n\tcall.tool == "read"\n\tabs(call.result) > 3\n}'
    ledger = recorded(tmp_path, text, "text")
    assert counts(tmp_path, NOTHING, ledger) == {"widened": 1}


def _changed(ledger: str, change: str) -> None:
    db = sqlite3.connect(ledger)
    assert db.execute(f"UPDATE events SET attributes = {change} WHERE kind = 'outcome'").rowcount
    db.commit()
    db.close()


def test_outcome_of_an_older_version_cannot_be_told(tmp_path: Path) -> None:
    ledger = recorded(tmp_path, NOTHING, {"kind": "open"})
    _changed(ledger, """json_remove(attributes, '$."fumehood.result.decision"')""")
    result = run(tmp_path, HEAD + UNREAD, ledger)
    assert "what was decided about this result was not recorded then" in result.stdout
    assert run(tmp_path, HEAD + UNREAD, ledger, "--fail-on", "unsure").exit_code == 1


def test_result_that_claims_that_nobody_was_asked_is_not_believed(tmp_path: Path) -> None:
    ledger = recorded(tmp_path, OLD, {"card": "4711", "fumehood.result.decision": None})
    assert counts(tmp_path, NOTHING, ledger) == {"obligations": 1}


@pytest.mark.parametrize("spoilt", ["'{'", "'[]'", "'{}'"])
def test_outcome_that_cannot_be_read_is_an_error(tmp_path: Path, spoilt: str) -> None:
    ledger = recorded(tmp_path, OLD, {"kind": "open"})
    _changed(ledger, spoilt)
    result = run(tmp_path, OLD, ledger)
    assert isinstance(result.exception, LedgerError)
    assert "holds no outcome that can be read" in str(result.exception)


def test_markdown_names_results_apart(tmp_path: Path) -> None:
    text = run(tmp_path, NOTHING, recorded(tmp_path, OLD, {"kind": "secret"}), "--format", "markdown").stdout
    assert "1 recorded results, decided again: 1 widened." in text
    assert "**1 results that were withheld would now be released.**" in text
    assert "| widened | 1 | result of read | withhold" in text
