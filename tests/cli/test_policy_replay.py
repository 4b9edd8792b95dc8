"""`fumehood policy replay`, over ledgers that real guards wrote."""

from __future__ import annotations

import json
import sqlite3
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fumehood import Denied, Guard
from fumehood.cli.root import root
from fumehood.errors import FumehoodError, LedgerError
from fumehood.workbench import replay_run

OLD = """package policies.shop

import data.fumehood.call

permit if {
	call.tool == "pay"
	call.args.n <= 10
}

approve contains {"reason": "look", "risk": "low"} if {
	call.tool == "pay"
	call.args.n > 5
}

permit if call.tool == "<b>@look</b>"
"""


def folder(path: Path, text: str) -> str:
    path.mkdir(exist_ok=True)
    (path / "shop.rego").write_text(text)
    return f"{path}/"


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    path = tmp_path / "ledger.db"
    with Guard(folder(tmp_path / "old", OLD), ledger=path, isolation="thread", unattended="deny") as guard:
        with guard.session(agent="bot"):
            for n in (1, 7, 50):
                try:
                    guard.call("pay", {"n": n}, run=lambda n: n)
                except Denied:
                    assert n > 5
            guard.call("<b>@look</b>", {"n": 1}, run=lambda n: n)
    return str(path)


def run(*args: str) -> Result:
    return CliRunner().invoke(root, ["policy", "replay", *args])


def test_same_policies_change_nothing(tmp_path: Path, ledger: str) -> None:
    result = run(str(tmp_path / "old") + "/", "--ledger", ledger, "--json")
    said = json.loads(result.stdout)
    assert (result.exit_code, said["calls"], said["counts"]["same"], said["groups"]) == (0, 4, 4, [])


def test_call_that_would_now_be_permitted_ends_with_1(tmp_path: Path, ledger: str) -> None:
    new = folder(tmp_path / "new", OLD.replace("<= 10", "<= 100").replace("> 5", "> 60"))
    result = run(new, "--ledger", ledger)
    assert result.exit_code == 1
    assert "2 that were denied, or asked, would now be PERMITTED." in result.stdout
    assert "WIDENED: 1 × pay   deny → permit" in result.stdout
    assert "WIDENED: 1 × pay   ask → permit" in result.stdout


def test_tighter_policies_end_with_0_and_are_shown(tmp_path: Path, ledger: str) -> None:
    new = folder(tmp_path / "new", OLD.replace("> 5", "> 0"))
    result = run(new, "--ledger", ledger)
    assert result.exit_code == 0
    assert "TIGHTENED: 1 × pay   permit → ask" in result.stdout
    assert run(new, "--ledger", ledger, "--fail-on", "changed").exit_code == 1


def test_markdown_is_a_table_in_which_nothing_is_markup(tmp_path: Path, ledger: str) -> None:
    new = folder(tmp_path / "new", OLD.replace('permit if call.tool == "<b>@look</b>"', ""))
    text = run(new, "--ledger", ledger, "--format", "markdown").stdout
    assert "| tightened | 1 | &#60;b&#62;&#64;look&#60;/b&#62; |" in text
    assert "<b>" not in text


def test_several_processes_find_the_same(tmp_path: Path, ledger: str) -> None:
    new = folder(tmp_path / "new", OLD.replace("<= 10", "<= 100"))
    one, two = (run(new, "--ledger", ledger, "--json", "--processes", n).stdout for n in ("1", "2"))
    assert json.loads(one) == json.loads(two)
    assert json.loads(one)["counts"]["widened"] == 1


def test_other_sessions_can_be_left_out(tmp_path: Path, ledger: str) -> None:
    said = json.loads(
        run(str(tmp_path / "old") + "/", "--ledger", ledger, "--json", "--agent", "nobody").stdout
    )
    assert said["calls"] == 0


def test_ledger_that_is_missing_is_refused(tmp_path: Path) -> None:
    folder(tmp_path / "old", OLD)
    result = run(str(tmp_path / "old") + "/", "--ledger", str(tmp_path / "none.db"))
    assert isinstance(result.exception, LedgerError)


def test_secret_that_a_new_rule_reads_cannot_be_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with (
        Guard(folder(tmp_path / "old", OLD), ledger=path, isolation="thread") as guard,
        guard.session(agent="bot"),
    ):
        notes: dict[str, Any] = {"secret": ["pin"]}
        guard.call("pay", {"n": 1, "pin": "9876"}, run=lambda n, pin: n, annotations=notes)
    new = folder(
        tmp_path / "new",
        OLD + '\ndeny contains "x" if {\n\tcall.tool == "pay"\n\tcall.args.pin == "9876"\n}\n',
    )
    result = run(new, "--ledger", str(path))
    assert result.exit_code == 0
    assert "CANNOT TELL: 1 × pay" in result.stdout
    assert run(new, "--ledger", str(path), "--fail-on", "unsure").exit_code == 1
    assert "9876" not in result.stdout


def _spoil(ledger: str) -> None:
    db = sqlite3.connect(ledger)
    db.execute("UPDATE documents SET body = ? WHERE seq = (SELECT max(seq) FROM documents)", (b"{",))
    db.commit()
    db.close()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_spoilt_ledger_is_an_error_wherever_it_is_read(tmp_path: Path, ledger: str, processes: str) -> None:
    _spoil(ledger)
    result = run(str(tmp_path / "old") + "/", "--ledger", ledger, "--processes", processes)
    assert isinstance(result.exception, LedgerError)
    assert result.exception.code == "ledger_corrupt"
    assert "holds no decision that can be read" in str(result.exception)


def test_process_that_is_killed_ends_the_replay(
    tmp_path: Path, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = BaseProcess.start

    def killed(process: BaseProcess) -> None:
        begin(process)
        process.kill()

    monkeypatch.setattr(BaseProcess, "start", killed)
    result = run(str(tmp_path / "old") + "/", "--ledger", ledger, "--processes", "2")
    assert isinstance(result.exception, FumehoodError)
    assert "ended from outside" in str(result.exception)


def test_interrupted_replay_leaves_no_process(
    tmp_path: Path, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(replay_run, "_received", interrupted)
    run(str(tmp_path / "old") + "/", "--ledger", ledger, "--processes", "2")
    assert active_children() == []
