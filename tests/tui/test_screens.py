"""Each screen as it is drawn, character by character, in two sizes and in ASCII.

The files in `screens/` are what a person should look at when one of these fails; to accept a change:
`FUMEHOOD_ACCEPT_SCREENS=1 pytest tests/tui/test_screens.py`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fumehood.approval import State
from fumehood.canonical import canonical
from fumehood.ledger.protocol import StopScope
from tui.fake import NOW, FakeLedger, approval, event, three

FOLDER = Path(__file__).with_name("screens")
SIZES = [pytest.param((80, 24), id="80x24"), pytest.param((120, 40), id="120x40")]


async def check(hands, name: str) -> None:
    """Compare the screen, once it has settled, with the file called *name*."""
    columns, rows = hands.app.size
    file = FOLDER / f"{name}-{columns}x{rows}.txt"
    if os.environ.get("FUMEHOOD_ACCEPT_SCREENS"):
        FOLDER.mkdir(exist_ok=True)
        await hands.pilot.pause(0.5)
        file.write_text(hands.screen() + "\n", encoding="utf-8")
    expected = file.read_text(encoding="utf-8")
    assert expected.count("\n") == rows
    with contextlib.suppress(AssertionError):  # pytest's own comparison says more
        await hands.until(lambda: hands.screen() + "\n" == expected)
    assert hands.screen() + "\n" == expected, file.name


async def dialogue(hands, key: str, *then: str) -> None:
    """Open a dialogue with *key*, and press the others once it takes keys."""
    await hands.press(key)
    await hands.until(lambda: hands.app.screen is not hands.app.main and hands.app.screen.is_mounted)
    await hands.press(*then)


def busy() -> FakeLedger:
    """The inbox of the design's drawing, and a trace of every kind of line."""
    hostile = canonical({"cmd": "rm -rf /srv/x\u202e\x1b[2J", "env": {f"KEY_{n}": n for n in range(40)}})
    rows = [replace(a, args=hostile if a.tool == "sql" else a.args) for a in three()]
    pending = b'{"fumehood.approval.state":"pending"}'
    denied = b'{"fumehood.approval.state":"denied"}'
    events = [event(n, tool="read_ticket") for n in range(1, 24)]
    events += [
        event(24, kind="session", tool="", effect="", summary="opened"),
        event(25, tool="issue_refund", summary="ask: the amount is not known to come from the user"),
        event(
            26,
            kind="approval",
            tool="issue_refund",
            effect="",
            summary="pending 7f3a91c2",
            attributes=pending,
        ),
        event(
            27, agent="ops-bot", tool="http_post", effect="deny", summary="egress to a host not on the list"
        ),
        event(
            28,
            kind="approval",
            agent="ops-bot",
            tool="mail",
            effect="",
            summary="denied by bob",
            attributes=denied,
        ),
        event(29, kind="outcome", agent="analyst", tool="sql", effect="", summary="done in 12 ms"),
        event(30, kind="stop", agent="", tool="", effect="", summary="stopped agent ops-bot by bob"),
    ]
    return FakeLedger(rows, events)


@pytest.mark.parametrize("size", SIZES)
async def test_the_main_screen(run, size: tuple[int, int]) -> None:
    async with run(busy(), size=size) as hands:
        hands.now, hands.seconds = NOW, hands.seconds + 1
        hands.app._tick()
        await hands.press()
        await check(hands, "main")


@pytest.mark.parametrize("size", SIZES)
async def test_a_clipped_request_and_its_full_view(run, size: tuple[int, int]) -> None:
    async with run(busy(), size=size) as hands:
        hands.now = NOW
        await hands.press("G")
        await hands.until(lambda: "clipped" in hands.screen())
        hands.app._tick()
        await hands.press()
        await check(hands, "clipped")
        await hands.press("v")
        await hands.until(hands.is_view_laid)
        await hands.until(lambda: "U+202E" in hands.screen())
        await check(hands, "full")


@pytest.mark.parametrize("size", SIZES)
async def test_the_dialogues(run, size: tuple[int, int]) -> None:
    ledger = busy()
    ledger.stop(StopScope.AGENT, "ops-bot", by="bob", reason="it loops")
    async with run(ledger, size=size) as hands:
        hands.now = NOW
        hands.app._tick()
        await dialogue(hands, "d", *"not this one")
        await check(hands, "deny")
        await hands.press("escape")
        await dialogue(hands, "a", *"7f")
        await check(hands, "confirm")
        await hands.press("escape")
        await dialogue(hands, "s")
        await check(hands, "stop")
        await hands.press("j", "enter")
        await check(hands, "stop-confirm")
        await hands.press("escape", "escape")
        await dialogue(hands, "question_mark")
        await check(hands, "help")


@pytest.mark.parametrize("size", SIZES)
async def test_a_dialogue_that_is_over(run, size: tuple[int, int]) -> None:
    ledger = FakeLedger([approval("7f3a91c2")])
    async with run(ledger, size=size) as hands:
        hands.now = NOW
        await hands.press("d")
        dialogue = hands.app.screen
        ledger.change("7f3a91c2", state=State.APPROVED, decided_by="bob")
        await hands.until(lambda: dialogue.is_over)
        await hands.until(lambda: hands.app.main.bar.said and hands.app.main.selected is None)
        await hands.until(lambda: "Nothing is selected" in hands.screen())
        hands.app._tick()
        await hands.press()
        await check(hands, "over")


@pytest.mark.parametrize("size", SIZES)
async def test_waiting_for_a_ledger(run, size: tuple[int, int]) -> None:
    async with run(size=size, exists=False) as hands:
        await hands.until(lambda: "Waiting for" in hands.screen())
        await check(hands, "waiting")


@pytest.mark.parametrize("size", SIZES)
async def test_an_empty_inbox_that_is_stale(run, size: tuple[int, int]) -> None:
    async with run(FakeLedger(events=[event(1)]), size=size) as hands:
        hands.now = NOW
        hands.app._read_at -= 100
        hands.app._tick()
        await hands.press()
        await check(hands, "empty-stale")


async def test_ascii(run) -> None:
    async with run(busy(), is_ascii=True) as hands:
        hands.now = NOW
        await hands.press("G")
        await hands.until(lambda: "clipped" in hands.screen())
        hands.app._tick()
        await hands.press()
        await check(hands, "ascii")
        await hands.press("d")
        await check(hands, "ascii-deny")


def test_the_picture_in_the_docs_is_what_the_app_looks_like() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, str(root / "scripts" / "screenshot.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
