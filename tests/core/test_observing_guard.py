"""A guard that observes, whole: real policies, real ledger; what runs, what is recorded, what is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fumehood import ConfigError, Denied, Guard, Withheld
from fumehood.cli.root import root
from fumehood.ledger import StopScope, names
from fumehood.testing import guarded

SHOP = """
package policies.shop

import data.fumehood.call

permit if call.tool in {"look", "leak", "often", "pay", "code"}

deny contains "never pay" if call.tool == "pay"

approve contains {"reason": "look first", "risk": "low"} if call.tool == "look"

confine contains "python-offline" if call.tool == "code"

limit contains {"key": "often", "max": 1, "per_s": 3600} if call.tool == "often"

withhold contains "not for you" if {
	call.tool == "leak"
	call.result == "card 4111111111111111"
}

redact contains {"pattern": "[0-9]{16}"} if call.tool == "leak"
"""

BASE = """
package policies.base

import data.fumehood.call

permit if call.tool in {"look", "pay"}
"""
LIMIT = '\nlimit contains {"key": "pay", "max": 1, "per_s": 3600} if call.tool == "pay"\n'
MARK = "# METADATA\n# title: x\n# custom:\n#   mode: observe\n"


def folder(path: Path, **files: str) -> str:
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / f"{name}.rego").write_text(text)
    return f"{path}/"


@pytest.fixture
def guards(tmp_path: Path) -> Iterator[Any]:
    made: list[Guard] = []

    def make(mode: str, **files: str) -> Guard:
        guard = Guard(
            folder(tmp_path / "p", **files),
            ledger=tmp_path / "ledger.db",
            isolation="thread",
            unattended="deny",
            mode=mode,  # type: ignore[arg-type]
        )
        made.append(guard)
        return guard

    yield make
    for guard in made:
        guard.close()


def _call(guard: Guard, tool: str, result: object = "done") -> object:
    with guard.session(agent="bot", user="u", id=None):
        return guard.call(tool, {"n": 1}, run=lambda n: result)


@pytest.mark.parametrize("tool", ["pay", "look", "often", "unheard_of"])
def test_observing_guard_runs_what_its_policies_refuse(guards: Any, tool: str) -> None:
    guard = guards("observe", shop=SHOP)
    assert [_call(guard, tool), _call(guard, tool)] == ["done", "done"]


@pytest.mark.parametrize("tool", ["pay", "look", "unheard_of"])
def test_the_same_policies_enforced_refuse(guards: Any, tool: str) -> None:
    with pytest.raises(Denied):
        _call(guards("enforce", shop=SHOP), tool)


def test_confinement_is_enforced_though_observed(guards: Any) -> None:
    with pytest.raises(Denied) as denied:
        _call(guards("observe", shop=SHOP), "code")
    assert denied.value.code == "cannot_confine"


def test_withheld_result_is_shown_redacted(guards: Any) -> None:
    assert _call(guards("observe", shop=SHOP), "leak", "card 4111111111111111") == "card [redacted]"


def test_stop_holds_though_observed(guards: Any) -> None:
    guard = guards("observe", shop=SHOP)
    guard.ledger.stop(StopScope.AGENT, "bot", by="carol")
    with pytest.raises(Denied) as denied:
        _call(guard, "look")
    assert denied.value.code == "stopped"


def test_policy_that_raises_denies_though_observed(guards: Any) -> None:
    guard = guards("observe", shop=SHOP + '\ndeny contains "x" if count(call.args.n) > 0\n')
    with pytest.raises(Denied) as denied:
        _call(guard, "look")
    assert denied.value.code == "pdp_error"


def test_marked_package_is_only_observed_and_permits_nothing(guards: Any) -> None:
    guard = guards("observe-packages", shop=MARK + SHOP.lstrip(), base=BASE)
    assert _call(guard, "pay") == "done"  # denied by shop, permitted by base
    with pytest.raises(Denied) as denied:
        _call(guard, "often")  # permitted by shop alone, which does not count
    assert denied.value.code == "no_permit"


def test_mark_in_a_bundle_changes_nothing_where_the_guard_enforces(
    guards: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUMEHOOD_MODE", "observe")
    guard = guards("enforce", shop=MARK + SHOP.lstrip(), base=BASE)
    with pytest.raises(Denied):
        _call(guard, "pay")
    assert "enforces it all the same" in capsys.readouterr().err


def test_start_says_loudly_that_nothing_is_enforced(guards: Any, capsys: pytest.CaptureFixture[str]) -> None:
    guards("observe", shop=SHOP)
    assert "OBSERVING" in capsys.readouterr().err


def test_mark_that_nobody_knows_is_refused(guards: Any) -> None:
    with pytest.raises(ConfigError, match="mode: observ` is not known"):
        guards("observe-packages", shop=MARK.replace("observe", "observ") + SHOP.lstrip(), base=BASE)


def test_package_must_be_marked_in_each_of_its_files(guards: Any) -> None:
    more = 'package policies.shop\n\ndeny contains "x" if input.nope\n'
    with pytest.raises(ConfigError, match="another file marks"):
        guards("observe-packages", shop=MARK + SHOP.lstrip(), more=more, base=BASE)


def test_marking_every_package_is_refused(guards: Any) -> None:
    with pytest.raises(ConfigError, match="nothing would be permitted"):
        guards("observe-packages", shop=MARK + SHOP.lstrip())


def test_flow_style_mark_is_read(guards: Any) -> None:
    mark = "# METADATA\n# custom: {controls: x, mode: observe}\n"
    assert _call(guards("observe-packages", shop=mark + SHOP.lstrip(), base=BASE), "pay") == "done"


@pytest.mark.parametrize(
    "mark", ["# custom: {mode: observe}\n", "# METADATA\n# custom:\n#  a:\n#   mode: observe\n"]
)
def test_comment_that_is_no_metadata_of_the_package_marks_nothing(guards: Any, mark: str) -> None:
    with pytest.raises(Denied):
        _call(guards("observe-packages", shop=mark + SHOP.lstrip(), base=BASE), "pay")


def test_mode_that_nobody_knows_is_refused(guards: Any) -> None:
    with pytest.raises(ConfigError, match="mode='watch' is not known"):
        guards("watch", shop=SHOP)


def test_trace_says_what_would_have_been(guards: Any) -> None:
    guard = guards("observe", shop=SHOP)
    for tool in ("pay", "look", "often", "often", "leak"):
        _call(guard, tool, "card 4111111111111111")
    lines = [e.summary for e in guard.ledger.events() if e.kind in ("decision", "outcome")]
    assert lines[0] == "OBSERVED, not enforced: deny: never pay"
    assert lines[2] == "OBSERVED, not enforced: ask: look first"
    assert lines[4] == "OBSERVED: permit"
    assert lines[6].startswith("OBSERVED, not enforced: limit: a limit is reached")
    assert lines[9].endswith("OBSERVED, not enforced: withhold: not for you")


def test_what_was_observed_is_recorded_of_a_call_that_was_stopped_all_the_same(guards: Any) -> None:
    guard = guards("observe-packages", shop=MARK + SHOP.lstrip(), base=BASE + LIMIT)
    _call(guard, "pay")
    for code in ("limit_exceeded", "stopped"):
        with pytest.raises(Denied) as denied:
            _call(guard, "pay")
        assert denied.value.code == code
        said = json.loads([e for e in guard.ledger.events() if e.kind == "decision"][-1].attributes)
        observed = said[names.OBSERVED]
        assert observed["would"] is None
        assert [r["text"] for r in observed[names.REASONS]] == ["never pay"]
        guard.ledger.stop(StopScope.AGENT, "bot", by="carol")


def test_reload_keeps_observing_and_says_so(guards: Any, tmp_path: Path) -> None:
    guard = guards("observe", shop=SHOP)
    folder(tmp_path / "p", shop=SHOP + "# changed\n")
    guard.reload()
    assert _call(guard, "pay") == "done"
    guard.ledger.flush()
    (event,) = [e for e in guard.ledger.events() if e.kind == "policy_reloaded"]
    assert "OBSERVING" in event.summary


def test_guard_of_a_test_can_observe(tmp_path: Path) -> None:
    with guarded(folder(tmp_path / "p", shop=SHOP), folder=tmp_path, mode="observe") as guard:
        assert _call(guard, "pay") == "done"


def test_observed_limits_take_no_room_from_those_that_hold(guards: Any, tmp_path: Path) -> None:
    watching = guards("observe", shop=SHOP)
    for _ in range(3):
        _call(watching, "often")
    watching.close()
    enforcing = guards("enforce", shop=SHOP)
    assert _call(enforcing, "often") == "done"
    with pytest.raises(Denied):
        _call(enforcing, "often")


def test_enforced_decision_records_nothing_of_observing(guards: Any) -> None:
    guard = guards("enforce", shop=SHOP)
    _call(guard, "often")
    assert all(names.OBSERVED.encode() not in e.attributes for e in guard.ledger.events())


def test_report_groups_by_rule_tool_and_agent(guards: Any, tmp_path: Path) -> None:
    guard = guards("observe", shop=SHOP)
    for tool in ("pay", "pay", "look", "often", "often", "leak", "unheard_of"):
        _call(guard, tool, "card 4111111111111111")
    guard.close()
    args = ["policy", "report", "--ledger", str(tmp_path / "ledger.db")]
    said = json.loads(CliRunner().invoke(root, [*args, "--json", "--examples", "1"]).stdout)
    assert (said["observed"], said["stopped"], said["results"]) == (7, 5, 1)
    assert [(g["would"], g["rule"], g["tool"], g["count"]) for g in said["groups"]] == [
        ("deny", "policies.shop.deny", "pay", 2),
        ("ask", "policies.shop.approve", "look", 1),
        ("deny", "no_permit", "unheard_of", 1),
        ("limit", "policies.shop.limit", "often", 1),
        ("withhold", "policies.shop.withhold", "leak", 1),
    ]
    assert said["groups"][0]["examples"][0]["arguments"] == '{"n": 1}'
    text = CliRunner().invoke(root, args).stdout
    assert "7 calls were observed, NOT ENFORCED: 5 of them" in text
    assert "2 calls would have been DENIED by policies.shop.deny" in text


def test_report_on_a_guard_that_enforces_says_so(guards: Any, tmp_path: Path) -> None:
    guard = guards("enforce", shop=SHOP)
    _call(guard, "often")
    guard.close()
    said = CliRunner().invoke(root, ["policy", "report", "--ledger", str(tmp_path / "ledger.db")]).stdout
    assert said.startswith("Nothing was observed")


def _raise(n: int) -> None:
    raise ValueError("card 1")


@pytest.mark.parametrize("is_enforced", [True, False])
def test_failure_that_another_package_withholds_is_not_called_observed(
    guards: Any, is_enforced: bool
) -> None:
    withholding = SHOP.replace('call.result == "card 4111111111111111"', "call.is_error")
    other = withholding if is_enforced else SHOP
    base = other.replace("policies.shop", "policies.base").replace(
        'deny contains "never pay"', 'deny contains "x"'
    )
    guard = guards("observe-packages", shop=MARK + withholding.lstrip(), base=base)
    with guard.session(agent="bot"), pytest.raises(Withheld if is_enforced else ValueError):
        guard.call("leak", {"n": 1}, run=_raise)
    outcome = [e for e in guard.ledger.events() if e.kind == "outcome"][-1]
    assert ("OBSERVED" in outcome.summary) is not is_enforced
    assert (outcome.effect == "deny") is is_enforced
    assert (names.OBSERVED.encode() in outcome.attributes) is not is_enforced


def test_confined_worker_observes_as_the_thread_does(tmp_path: Path) -> None:
    given = folder(tmp_path / "p", shop=SHOP)
    with Guard(
        given, ledger=tmp_path / "l.db", isolation="worker", unattended="deny", mode="observe"
    ) as guard:
        assert _call(guard, "pay") == "done"
        with pytest.raises(Denied) as denied:
            _call(guard, "code")
        assert denied.value.code == "cannot_confine"


async def test_asynchronous_call_is_observed_as_well(guards: Any) -> None:
    guard = guards("observe", shop=SHOP)
    async with guard.session(agent="bot"):
        assert await guard.acall("pay", {"n": 1}, run=lambda n: "done") == "done"
