"""`fumehood demo` as somebody without a terminal runs it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from host import require

from fumehood.approval import State
from fumehood.cli import main
from fumehood.errors import ConfinementError
from fumehood.ledger import open_ledger
from fumehood_adapters.demo import stories
from fumehood_adapters.demo.record import Happened, differences
from fumehood_adapters.demo.stories import Expected, Story, story
from stories.conftest import FUMEHOOD, Demo, Ran, shell


def in_process(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    """The same command in this process, so that a test can change what it finds."""
    with open("/dev/null") as nothing, pytest.raises(SystemExit) as caught:
        monkeypatch.setattr("sys.stdin", nothing)
        main(["demo", *args])
    return int(caught.value.code or 0)


# --- the whole -----------------------------------------------------------------------------------------


def test_every_story_ends_as_it_should(played: Ran) -> None:
    require("userns")
    assert played.code == 0, played.out + played.err
    for line in (
        r"\d+ +issue_refund +amount_usd=500 order_id=A-1 +asked: denied +no +the amount is not known",
        r"\d+ +issue_refund +amount_usd=881 order_id=A-1 +asked: denied +no +the amount is not known",
        r"\d+ +issue_refund +amount_usd=40 order_id=A-1 +permit +yes",
        r"\d+ +load_model +path=….*sentiment.pkl +permit +confined",
        r"open for writing +\w+ +/.*stolen.txt",
        r"exec +refused +/bin/sh",
        r"… +score +\(18 more\) +permit +yes",
        r"… +score +\(2 more\) +deny +no +the limit is reached",
    ):
        assert re.search(line, played.out), line
    assert "What came of it outside: no file was written, nobody connected" in played.out
    assert "What differed" not in played.out
    assert played.err == ""


def test_no_byte_of_it_could_move_a_terminal(played: Ran) -> None:
    assert not [c for c in played.out if not c.isprintable() and c != "\n"]


def test_the_commands_that_it_names_work_afterwards(played: Ran, home: Path) -> None:
    commands = [shlex.split(c) for c in re.findall(r"^  (fumehood .*)$", played.out, re.MULTILINE)]
    assert len(commands) == 4
    outs = {}
    for command in commands:
        done = shell(str(FUMEHOOD), *command[1:], home=home)
        assert done.code == (2 if command[1] == "tui" else 0), done  # this needs a terminal
        outs[command[1], command[2]] = done.out
    assert "a limit is reached" in outs["trace", "tail"]
    assert json.loads(outs["trace", "show"])["action"]["properties"]["args"]["amount_usd"] == 500
    assert outs["approvals", "ls"].count("denied") == 2


def test_with_nobody_there_the_requests_end_as_expired_and_the_exit_says_so(demo: Demo) -> None:
    ran = demo("--no-operator", "--story", "refund", "--json")
    assert ran.code == 1
    said = json.loads(ran.out)
    (refund,) = said["stories"]
    assert [c["ends"] for c in refund["calls"]] == ["done", "approval_expired", "approval_expired", "done"]
    assert [c["ran"] for c in refund["calls"]] == [True, False, False, True]
    assert said["as_expected"] is False
    assert len(refund["differences"]) == 2 and "approval_expired" in refund["differences"][0]
    with closing(open_ledger(said["ledger"])) as book:
        assert [a.state for a in book.approvals(tuple(State))] == [State.EXPIRED] * 2


def test_a_second_run_in_the_same_ledger_is_not_stopped_by_the_first_ones_limit(
    home: Path, demo: Demo
) -> None:
    ledger = str(home / "again.db")
    runs = [demo("--story", "drain", "--json", "--ledger", ledger) for _ in range(2)]
    assert [r.code for r in runs] == [0, 0], runs
    agents = [json.loads(r.out)["stories"][0]["agent"] for r in runs]
    assert agents[0] == "pricing-bot" and re.fullmatch(r"pricing-bot-[0-9a-f]{4}", agents[1])


def test_a_demo_that_is_killed_leaves_nothing_waiting(home: Path) -> None:
    ledger = home / "killed.db"
    command = [str(FUMEHOOD), "demo", "--story", "refund", "--ledger", str(ledger), "--no-operator"]
    env = {**os.environ, "TMPDIR": str(home)}
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=env)
    assert running.stdout
    while "waits" not in (line := running.stdout.readline()):
        assert line, "it ended before anything waited"
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stdout.close()
    with closing(open_ledger(ledger)) as book:
        deadline = time.monotonic() + 30
        while book.approvals() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert State.PENDING not in [a.state for a in book.approvals(tuple(State))]


# --- what it does where it cannot go on ----------------------------------------------------------------


def test_without_langchain_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "fumehood_adapters.demo.command.find_spec", lambda name: None if name == "langgraph" else name
    )
    assert in_process(monkeypatch) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "needs langgraph, which is not installed; run: pip install 'fumehood[langchain]'" in err


def test_a_host_that_cannot_confine_is_exit_4(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConfinementError("this host refused", layer="landlock", remedy="Use another.")

    monkeypatch.setattr("fumehood.confine.python", refuse)
    assert in_process(monkeypatch) == 4
    assert "layer: landlock" in capsys.readouterr().err


def test_without_user_namespaces_the_lesser_tier_is_used_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    require("landlock")

    def refuse(*_: object, tier: str, **__: object) -> None:
        if tier == "full":
            raise ConfinementError("this host refused", layer="user-ns", remedy="Allow them.")

    monkeypatch.setattr("fumehood.confine.python", refuse)
    monkeypatch.setattr("tempfile.tempdir", str(home))
    assert in_process(monkeypatch, "--story", "model-file") == 0
    out = capsys.readouterr().out
    assert "tier no-userns, because this host gives no user namespaces" in out
    assert re.search(r"socket +refused +AF_INET SOCK_STREAM", out)


def test_an_unknown_story_is_a_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(monkeypatch, "--story", "nothing") == 2
    assert "refund, model-file, drain" in capsys.readouterr().err


# --- the comparison ------------------------------------------------------------------------------------


def test_an_expectation_that_is_not_met_is_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    drain = story("drain")
    calls = (*drain.calls[:19], *(Expected("score", "limit_exceeded"),) * 5)
    monkeypatch.setattr(stories, "STORIES", (replace(drain, calls=calls),))
    monkeypatch.setattr("tempfile.tempdir", str(home))
    assert in_process(monkeypatch, "--story", "drain") == 1
    out = capsys.readouterr().out
    assert "expected was 'limit_exceeded', the ledger says 'done'" in out
    assert "What was prevented" not in out


def as_expected(told: Story) -> tuple[list[Happened], list[dict[str, object]]]:
    """A record in which everything is as it should be."""
    calls = [
        Happened(
            seq=number,
            tool=wanted.tool,
            args=dict(wanted.args),
            asks=["why"] * wanted.is_asked,
            ends=wanted.ends,
            confinement={"profile": wanted.profile},
            tried=[(words[0], "", "refused") for words in wanted.tried],
        )
        for number, wanted in enumerate(told.calls, 1)
    ]
    return calls, [{"story": told.name, **effect} for effect in told.effects]


@pytest.mark.parametrize("told", stories.STORIES, ids=lambda s: s.name)
def test_a_record_as_it_should_be_differs_in_nothing(told: Story) -> None:
    assert differences(told, *as_expected(told)) == []


def changed(told: Story, number: int, **fields: object) -> Sequence[str]:
    calls, effects = as_expected(told)
    calls[number] = replace(calls[number], **fields)  # type: ignore[arg-type]
    return differences(told, calls, effects)


def test_each_difference_is_found() -> None:
    refund, model, drain = stories.STORIES
    assert "expected was 'denied_by_person'" in changed(refund, 1, ends="done")[0]
    assert "should have been asked" in changed(refund, 1, asks=[])[0]
    assert "should not have been asked" in changed(refund, 3, asks=["why"])[0]
    assert "expected was issue_refund" in changed(refund, 1, args={"order_id": "A-1", "amount_usd": 5})[0]
    two_of_three = [("connect", "", ""), ("open for writing", "", "")]
    assert "no attempt to exec" in changed(model, 0, tried=two_of_three)[0]
    assert "under the profile model-loader" in changed(model, 0, confinement={})[0]
    calls, effects = as_expected(drain)
    assert "24 calls were expected, the ledger has 23" in differences(drain, calls[:-1], effects)[0]
    assert "21 times" in differences(drain, calls, [*effects, effects[0]])[0]
    refunds, paid = as_expected(refund)
    paid.append({"story": "refund", "tool": "issue_refund", "order_id": "A-1", "amount_usd": 500})
    assert "amount_usd=500" in differences(refund, refunds, paid)[0]
    assert "nothing" in differences(refund, refunds, [])[0]
