"""Hostile text in every field, on every screen: what reaches the terminal is plainly visible text."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from rich.segment import Segment
from textual.app import App, ComposeResult
from textual.widgets import Static

from fumehood.approval import Approval, State
from fumehood.canonical import canonical
from fumehood.display import inert
from fumehood.errors import LedgerError
from fumehood.ledger.protocol import Event, Stop, StopScope
from fumehood.model import Approve, Risk
from fumehood_tui.app import FumehoodApp
from fumehood_tui.backstop import Backstop
from fumehood_tui.store import Store
from tui.fake import NOW, FakeLedger, approval, event

EVIL = (
    "\x1b[2J\x1b]0;owned\x07\x1b]8;;http://evil\x1b\\\x9b31m\x90q\x9c\u202e\u2066\u200b\u200d\ufeff\u00ad\u3164"
    "\U000e0041[red]markup[/red][@click=app.quit]x[/]\r\n\t\x00\x08\x7f" + "\u0301" * 20
)
FORBIDDEN = [chr(c) for c in (*range(0x20), *range(0x7F, 0xA0))] + list(
    "\u202a\u202e\u2066\u2069\u200b\u200d\u200e\u2028\u2029\ufeff\u00ad\u3164\U000e0041"
)


def poisoned(value: object) -> object:
    """The same kind of value, as bad as that kind can be."""
    if isinstance(value, str) and not isinstance(value, State):
        return EVIL
    if isinstance(value, bytes):
        return canonical({EVIL: [EVIL, {"deep": EVIL}]})
    if isinstance(value, tuple) and value and all(isinstance(item, str) for item in value):
        return (EVIL, EVIL)
    return value


def evil_approval(risk: Risk, id: str) -> Approval:
    plain = approval(id, injected=("state",))
    bad = {f.name: poisoned(getattr(plain, f.name)) for f in fields(plain)}
    reasons = (Approve(EVIL, risk, controls=(EVIL,), rule=EVIL),)
    return replace(plain, **{**bad, "id": id, "reasons": reasons, "user": EVIL, "call_id": EVIL})


def evil_event(seq: int) -> Event:
    plain = event(seq)
    return replace(plain, **{f.name: poisoned(getattr(plain, f.name)) for f in fields(plain)})


def evil_ledger() -> FakeLedger:
    rows = [evil_approval(Risk.HIGH, "7f3a" + EVIL), evil_approval(Risk.LOW, "81bc0000")]
    ledger = FakeLedger(rows, [evil_event(n) for n in range(1, 30)])
    ledger.halts = [Stop(1, StopScope.AGENT, EVIL, EVIL, EVIL, NOW)]
    return ledger


def checked(text: str, *, is_ascii: bool = False) -> None:
    found = {f"U+{ord(c):04X}" for c in FORBIDDEN if c in text.replace("\n", "")}
    assert not found
    assert "\u0301" * 5 not in text
    assert not is_ascii or text.isascii()


@pytest.fixture
def no_backstop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule must hold without the net under it."""
    monkeypatch.setattr(Backstop, "apply", lambda self, segments, background: segments)


async def through_all_screens(hands, look) -> None:
    """Every screen, in turn; *look* is called on each."""
    look()
    await hands.press("a")
    look()
    await hands.press("escape", "d", "x")
    look()
    await hands.press("escape", "v")
    await hands.until(hands.is_view_laid)
    look()
    await hands.press("G")
    look()
    await hands.press("escape", "s")
    look()
    await hands.press("enter")
    look()
    await hands.press("escape", "escape", "question_mark")
    look()
    await hands.press("escape", "j", "slash", *"[red]", "enter")
    look()
    await hands.press("escape", "tab", "v")
    await hands.until(hands.is_view_laid)
    look()
    await hands.press("escape")


@pytest.mark.usefixtures("no_backstop")
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_no_screen_passes_hostile_text_on_even_without_the_backstop(run, size: tuple[int, int]) -> None:
    async with run(evil_ledger(), size=size) as hands:
        seen: list[str] = []
        await through_all_screens(hands, lambda: seen.append(hands.screen()))
        for screen in seen:
            checked(screen)
        assert "[red]" in "".join(seen)  # markup is shown, not obeyed
        assert "⟨U+001B⟩" in "".join(seen)


async def test_ascii_mode_draws_nothing_but_ascii(run) -> None:
    async with run(evil_ledger(), is_ascii=True) as hands:
        await through_all_screens(hands, lambda: checked(hands.screen(), is_ascii=True))
        assert "<U+001B>" in hands.screen()


async def test_colourless_mode_sends_no_colour(run) -> None:
    async with run(evil_ledger(), is_colorless=True) as hands:
        strips = hands.app.screen._compositor.render_strips()
        styles = {segment.style for strip in strips for segment in strip if segment.style}
        assert styles
        assert all(style.color is None and style.bgcolor is None for style in styles)
        assert {"HIGH", "LOW"} <= set(hands.screen().replace("▲", " ").replace("○", " ").split())


async def test_messages_of_errors_and_of_people_are_inert(run) -> None:
    ledger = FakeLedger([approval("81bc0000")])
    async with run(ledger) as hands:
        ledger.refuse = LedgerError(EVIL, code="ledger_error")
        await hands.press("a")
        await hands.until(lambda: "was not decided" in hands.said)
        checked(hands.screen())
        ledger.change("81bc0000", state=State.DENIED, decided_by=EVIL, note=EVIL)
        await hands.until(lambda: "was denied by" in hands.said)
        checked(hands.screen())
        ledger.fail = LedgerError(EVIL)
        ledger.ring()
        await hands.until(lambda: "cannot be read" in hands.said)
        checked(hands.screen())


async def test_a_hostile_path_is_shown_inert(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = FumehoodApp(Store("a\x1b[31m\u202eb.db", lambda _: FakeLedger().as_ledger()))
    async with app.run_test(size=(80, 24)) as pilot:
        text = ""
        for _ in range(1500):  # it may take a while until it is drawn
            await pilot.pause(0.02)
            strips = app.screen._compositor.render_strips()
            text = "\n".join("".join(s.text for s in strip) for strip in strips)
            checked(text)
            if "⟨U+001B⟩" in text:
                break
        assert "⟨U+001B⟩" in text


class Careless(App[None]):
    """A mistake: raw text in a widget."""

    def get_line_filters(self):
        return [*super().get_line_filters(), Backstop()]

    def compose(self) -> ComposeResult:
        yield Static(EVIL, markup=False)


async def test_the_backstop_catches_a_widget_that_forgot() -> None:
    app = Careless()
    async with app.run_test(size=(80, 10)) as pilot:
        await pilot.pause()
        for strip in app.screen._compositor.render_strips():
            assert all(isinstance(segment, Segment) for segment in strip)
            checked("".join(segment.text for segment in strip))


async def test_a_crash_prints_no_locals_and_nothing_hostile(run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError):
        async with run(FakeLedger([approval()])) as hands:

            def broken() -> None:
                secret = EVIL  # noqa: F841
                raise ValueError(EVIL)

            hands.app.call_later(broken)
            for _ in range(50):
                await hands.pilot.pause(0.01)
    printed = "".join(capsys.readouterr())
    assert "has failed: ValueError" in printed
    assert "secret" not in printed
    checked(printed)


async def test_a_megabyte_in_every_field_is_clipped_and_counted(run) -> None:
    big = "x" * 1_000_000
    row = approval(
        "81bc0000", tool=big, agent=big, user=big, session_id=big, reasons=(Approve(big),), rules=(big,)
    )
    ledger = FakeLedger([row], [event(1, agent=big, tool=big, summary=big, session_id=big)])
    async with run(ledger) as hands:
        checked(hands.screen())
        request = hands.app.main.selected
        assert "characters)" in request.tool
        assert "clipped: +" in hands.screen()


def test_inert_is_what_the_screen_relies_on() -> None:
    checked(inert(EVIL))
