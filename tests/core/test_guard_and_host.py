"""The guard against the world: forks, stops, confined bodies, a ledger that fails."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from faults.agent import ConfinedBody, confined_tool
from host import PARTS

from fumehood import Denied, Guard, LedgerError, Withheld
from fumehood.binding import define
from fumehood.confined import run_confined
from fumehood.ledger import StopScope
from fumehood.model import Runs
from fumehood.testing import guarded

POLICY = """
package policies.host

import data.fumehood.call

permit if call.tool in {"count", "compute", "in_process"}

confine contains "python-offline" if call.tool == "compute"

confine contains {"profile": "python-offline", "write": ["%s"]} if {
	call.tool == "compute"
	call.args.n == 666
}

confine contains "strictest" if call.tool == "in_process"
"""


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "host.rego").write_text(POLICY % tmp_path)
    return folder


def tier() -> Any:
    return "full" if PARTS["userns"]() else "no-userns"


class Sleeping(ConfinedBody):
    """A confined body that would run for a minute."""

    def run(self, bound: Any, confinements: Any, /) -> object:
        assert self.guard is not None
        outcome = run_confined(
            self.guard,
            profile="python-offline",
            confinements=confinements,
            source="import time; print('up', flush=True); time.sleep(60)",
            timeout_s=60,
        )
        return outcome.exit.kind


@pytest.mark.parametrize("isolation", ["thread", "worker"])
def test_forked_child_decides_and_records_by_itself(policies: Path, tmp_path: Path, isolation: Any) -> None:
    with guarded(policies, folder=tmp_path, isolation=isolation) as guard, guard.session(agent="bot"):
        assert guard.call("count", {}, run=lambda: "parent") == "parent"
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if guard.call("count", {}, run=lambda: "child") == "child" else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert guard.call("count", {}, run=lambda: "parent") == "parent"
        guard.ledger.flush()
        decisions = [e for e in guard.ledger.events() if e.kind == "decision"]
    assert len(decisions) == 3


def test_tool_in_the_agents_process_is_denied_where_policy_wants_it_confined(
    policies: Path, tmp_path: Path
) -> None:
    ran = []
    with guarded(policies, folder=tmp_path) as guard, guard.session(agent="bot"):
        with pytest.raises(Denied) as denied:
            guard.call("in_process", {}, run=lambda: ran.append(1))
    assert denied.value.code == "cannot_confine" and ran == []


def test_stop_ends_a_confined_process_at_once(policies: Path, tmp_path: Path) -> None:
    results: list[object] = []
    with Guard(policies, ledger=tmp_path / "l.db", isolation="thread", tier=tier()) as guard:
        body = Sleeping(confined_tool(), lambda: {"n": 1}, "c1", guard)

        def run() -> None:
            with guard.session(agent="bot", id="s1"):
                results.append(guard.enforce(body))

        thread = threading.Thread(target=run)
        thread.start()
        end = time.monotonic() + 20
        while not guard.jobs.count and time.monotonic() < end:
            time.sleep(0.01)
        begun = time.monotonic()
        guard.ledger.stop(StopScope.SESSION, "s1", by="op")
        thread.join(20)
        assert results == ["stopped"]
        assert time.monotonic() - begun < 15


def test_policy_cannot_open_the_ledger_or_the_policies_to_confined_code(
    policies: Path, tmp_path: Path
) -> None:
    with Guard(policies, ledger=tmp_path / "l.db", isolation="thread", tier=tier()) as guard:
        body = ConfinedBody(confined_tool(), lambda: {"n": 666}, "c1", guard)
        with guard.session(agent="bot"), pytest.raises(Denied) as denied:
            guard.enforce(body)
    assert denied.value.code == "cannot_confine"
    assert "belongs to the guard" in (denied.value.decision.reasons[0].detail or "")


def test_confinement_is_on_record_with_its_layers(policies: Path, tmp_path: Path) -> None:
    with Guard(policies, ledger=tmp_path / "l.db", isolation="thread", tier=tier()) as guard:
        body = ConfinedBody(confined_tool(), lambda: {"n": 1}, "c1", guard, tier())
        with guard.session(agent="bot"):
            assert guard.enforce(body) == "exited computed\n"
        guard.ledger.flush()
        outcome = next(e for e in guard.ledger.events() if e.kind == "outcome")
    assert b"fumehood.confinement" in outcome.attributes
    assert b"seccomp" in outcome.attributes and b"python-offline" in outcome.attributes


def test_outcome_that_cannot_be_recorded_halts_the_session(
    policies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    def full(*_: object, **__: object) -> None:
        raise LedgerError("the disk is full", code="ledger_full")

    with guarded(policies, folder=tmp_path) as guard, guard.session(agent="bot"):
        with monkeypatch.context() as patch:
            patch.setattr(type(guard.ledger), "finish", full)
            with pytest.raises(Withheld) as withheld:
                guard.call("count", {}, run=lambda: ran.append(1))
        assert withheld.value.code == "outcome_unknown"
        with pytest.raises(Denied) as denied:
            guard.call("count", {}, run=lambda: ran.append(2))
    assert denied.value.code == "session_halted" and ran == [1]


@pytest.mark.parametrize("method", ["record", "past", "claim"])
def test_ledger_that_fails_before_the_run_means_that_nothing_runs(
    policies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    ran = []

    def full(*_: object, **__: object) -> None:
        raise LedgerError("the disk is full", code="ledger_full")

    with guarded(policies, folder=tmp_path) as guard, guard.session(agent="bot"):
        monkeypatch.setattr(type(guard.ledger), method, full)
        with pytest.raises(Denied) as denied:
            guard.call("count", {}, run=lambda: ran.append(1))
    assert denied.value.code == "ledger_full" and ran == []


def test_guard_that_cannot_open_its_ledger_leaves_nothing_behind(policies: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    before = threading.active_count()
    with pytest.raises(LedgerError):
        Guard(policies, ledger=tmp_path / "folder.db", isolation="worker")
    assert threading.active_count() == before


def test_definition_of_a_confined_tool_says_how_it_runs() -> None:
    assert define("x", runs=Runs.CONFINED).digest != define("x").digest
