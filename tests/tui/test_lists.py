"""What comes and goes by itself disturbs nobody: selection, focus, filter, trace, header, mouse."""

from __future__ import annotations

import threading

import pytest
from textual import events

from fumehood.approval import State
from fumehood.errors import LedgerError
from fumehood.ledger.protocol import StopScope
from fumehood_tui.app import STALE_S
from fumehood_tui.dialogues import StopDialogue
from fumehood_tui.fullview import FullView
from fumehood_tui.help import HelpDialogue
from fumehood_tui.trace import Trace
from fumehood_tui.view import row_from
from tui.fake import NOW, FakeLedger, approval, event, three


def trace_of(hands) -> Trace:
    return hands.app.main.query_one(Trace)


# new requests


async def test_a_new_request_changes_neither_selection_nor_focus_nor_screen(run) -> None:
    ledger = FakeLedger(three())
    async with run(ledger) as hands:
        await hands.press("j")
        focused = hands.app.focused
        ledger.add(approval("00000000", expires_at=NOW + 5), approval("ffffffff", expires_at=NOW + 900))
        await hands.until(lambda: "0000" in hands.screen() and "ffff" in hands.screen())
        assert hands.selected == "81bc04d7"
        assert hands.app.focused is focused
        assert hands.app.screen is hands.app.main


async def test_a_new_request_types_nothing_into_an_open_dialogue(run) -> None:
    ledger = FakeLedger(three())
    async with run(ledger) as hands:
        await hands.press("d", "n", "o")
        dialogue = hands.app.screen
        ledger.add(approval("00000000", expires_at=NOW + 5))
        await hands.until(lambda: len(hands.app._latest.requests) == 4)
        assert hands.app.screen is dialogue
        await hands.press("enter")
        await hands.until(lambda: ledger.verdicts)
        assert (ledger.verdicts[0].id, ledger.verdicts[0].note) == ("7f3a91c2", "no")


async def test_the_first_request_needs_a_moment_before_it_can_be_decided(run) -> None:
    ledger = FakeLedger()
    async with run(ledger) as hands:
        ledger.add(approval("81bc0000"))
        await hands.until(lambda: hands.selected == "81bc0000")
        await hands.until(lambda: hands.app.main.query_one("#detail").is_laid)
        await hands.press("a")
        assert ledger.verdicts == []
        assert "has just changed" in hands.said


async def test_the_detail_pane_never_shows_another_request_than_the_selected_one(run) -> None:
    ledger = FakeLedger(three())
    async with run(ledger) as hands:
        for key, tool in (
            ("j", "http_post"),
            ("j", "sql"),
            ("k", "http_post"),
            ("G", "sql"),
            ("g", "issue_refund"),
        ):
            await hands.press(key)
            assert tool in str(hands.app.main.query_one("#detail").border_title)


async def test_keys_move_and_stay_inside_the_list(run) -> None:
    async with run(FakeLedger(three())) as hands:
        seen = []
        for key in ("k", "down", "j", "j", "j", "up", "home", "end", "pageup", "pagedown"):
            await hands.press(key)
            seen.append(hands.selected[:2])
        assert seen == ["7f", "81", "82", "82", "82", "81", "7f", "82", "7f", "82"]


async def test_a_click_selects_and_a_key_in_the_footer_can_be_clicked(run) -> None:
    ledger = FakeLedger([approval("81bc0000"), approval("91bc0000", expires_at=NOW + 500)])
    async with run(ledger) as hands:
        await hands.pilot.click("#pending", offset=(5, 2))
        await hands.press()
        assert hands.selected == "91bc0000"
        await hands.until(lambda: hands.app.main.query_one("#detail").is_laid)
        await hands.pilot.click("FooterKey")
        await hands.until(lambda: ledger.verdicts)
        assert ledger.verdicts[0].id == "91bc0000"


async def test_a_long_list_scrolls_with_the_cursor(run) -> None:
    many = [approval(f"{n:04x}0000", expires_at=NOW + n + 10) for n in range(60)]
    async with run(FakeLedger(many)) as hands:
        await hands.press("G")
        assert hands.selected == "003b0000"
        assert "60/60" in hands.screen()
        assert "003b" in hands.screen()
        await hands.press("g")
        assert "0000" in hands.screen()


# the filter


async def test_slash_filters_both_lists_and_says_how_much_is_hidden(run) -> None:
    ledger = FakeLedger(three(), [event(1, tool="sql"), event(2, tool="mail")])
    async with run(ledger) as hands:
        await hands.press("slash", *"tool:sql", "enter")
        screen = hands.screen()
        assert "Pending 1 of 3  f: tool:sql" in screen
        assert "mail" not in screen
        assert "3 pending" in screen  # the header counts what is hidden as well
        assert hands.selected == "82aa5e10"
        await hands.press("escape")
        assert "81bc" in hands.screen()
        assert "mail" in hands.screen()


async def test_a_filter_that_cannot_be_read_is_explained_and_changes_nothing(run) -> None:
    async with run(FakeLedger(three())) as hands:
        await hands.press("slash", *"risk>=huge", "enter")
        assert "a risk is low, med or high" in hands.said
        assert "81bc" in hands.screen()


async def test_keys_typed_into_the_filter_decide_nothing(run) -> None:
    ledger = FakeLedger([approval("81bc0000")])
    async with run(ledger) as hands:
        await hands.press("slash", *"adsqv")
        assert hands.app.screen is hands.app.main
        assert ledger.verdicts == []
        assert hands.app.is_running


async def test_a_request_that_the_filter_hides_is_not_decided(run) -> None:
    ledger = FakeLedger([approval("81bc0000")])
    async with run(ledger) as hands:
        await hands.press("slash", *"nothing", "enter", "a", "d")
        assert ledger.verdicts == []
        assert "passes the filter" in hands.screen()


# the trace


async def test_the_trace_follows_until_somebody_moves_in_it(run) -> None:
    ledger = FakeLedger(events=[event(n, tool=f"tool-{n}") for n in range(1, 41)])
    async with run(ledger) as hands:
        assert "tool-40" in hands.screen()
        await hands.press("tab", "k", "k")
        assert not trace_of(hands).is_following
        assert trace_of(hands).latest.seq == 38
        assert "held at 38 of 40" in hands.screen()
        ledger.happen(*[event(n, tool=f"tool-{n}") for n in range(41, 61)])
        await hands.until(lambda: trace_of(hands)._shown[-1].seq == 60)
        assert trace_of(hands).latest.seq == 38
        assert "tool-38" in hands.screen()
        assert "tool-60" not in hands.screen()
        await hands.press("f")
        assert "tool-60" in hands.screen()


async def test_the_wheel_holds_the_trace_and_scrolls_the_list(run) -> None:
    many = [approval(f"{n:04x}0000", expires_at=NOW + n + 10) for n in range(60)]
    async with run(FakeLedger(many, [event(n) for n in range(1, 41)])) as hands:
        for widget, kind in (("#trace", events.MouseScrollUp), ("#pending", events.MouseScrollDown)):
            target = hands.app.main.query_one(widget)
            target.post_message(kind(target, 5, 2, 0, 1, 0, False, False, False))
        await hands.press()
        assert not trace_of(hands).is_following
        assert trace_of(hands).latest.seq == 37
        await hands.until(lambda: hands.app.main.pending.scroll_offset.y > 0)
        assert hands.selected == "00000000"


async def test_the_trace_keeps_a_bounded_number_of_rows_and_its_place(run) -> None:
    async with run() as hands:
        trace = trace_of(hands)
        trace.append([row_from(event(n)) for n in range(1, 5001)])
        trace.focus()
        await hands.press("k")
        where = trace.latest.seq
        trace.append([row_from(event(n)) for n in range(5001, 5501)])
        assert len(trace._shown) == len(trace._all) == 5000
        assert trace.latest.seq == where


async def test_a_line_of_the_trace_can_be_viewed(run) -> None:
    ledger = FakeLedger(events=[event(1, attributes=b'{"error.type":"Boom"}')])
    async with run(ledger) as hands:
        await hands.press("tab", "v")
        await hands.until(hands.is_view_laid)
        assert '"error.type": "Boom"' in hands.screen()
        await hands.press("a", "d")
        assert isinstance(hands.app.screen, FullView)
        await hands.press("q")
        assert hands.app.screen is hands.app.main


async def test_a_line_that_is_gone_from_the_ledger_is_said(run) -> None:
    ledger = FakeLedger(events=[event(1)])
    async with run(ledger) as hands:
        ledger.trace.clear()
        await hands.press("tab", "v")
        await hands.until(lambda: "not in the ledger any more" in hands.said)


# the header and the ledger


async def test_the_header_counts_and_names_the_oldest(run) -> None:
    async with run(FakeLedger(three())) as hands:
        line = hands.screen().splitlines()[0]
        assert "3 pending (oldest 0:4" in line
        assert "1 high" in line
        assert "LIVE" in line


OBSERVED = b'{"fumehood.observed":{"would":"deny"}}'


async def test_the_header_says_loudly_who_is_not_enforced(run) -> None:
    ledger = FakeLedger(three(), [event(1, attributes=OBSERVED), event(2, agent="ops-bot")])
    async with run(ledger) as hands:
        line = hands.screen().splitlines()[0]
        assert "NOT ENFORCED: 1 agent" in line
        assert "3 pending" in line


@pytest.mark.parametrize(
    "attributes",
    [b'{"args":{"fumehood.observed":1}}', b'{"a":"\\"fumehood.observed\\""}', b"{fumehood.observed"],
)
async def test_an_argument_of_that_name_does_not_raise_the_alarm(run, attributes: bytes) -> None:
    async with run(FakeLedger(three(), [event(1, attributes=attributes)])) as hands:
        assert "NOT ENFORCED" not in hands.screen()


async def test_an_agent_that_is_enforced_again_leaves_the_header(run) -> None:
    ledger = FakeLedger(three(), [event(1, attributes=OBSERVED), event(2)])
    async with run(ledger) as hands:
        assert "NOT ENFORCED" not in hands.screen()


async def test_a_ledger_that_does_not_exist_is_named_and_waited_for(run) -> None:
    ledger = FakeLedger(three(), [event(1)])
    async with run(ledger, exists=False) as hands:
        await hands.until(lambda: "Waiting for the ledger" in hands.screen())
        assert "ledger.db" in hands.screen()
        assert "WAITING" in hands.screen()
        hands.path.touch()
        await hands.until(lambda: "7f3a" in hands.screen())
        assert "LIVE" in hands.screen()


async def test_an_empty_inbox_names_its_ledger_and_last_writer(run) -> None:
    async with run(FakeLedger(events=[event(1, at=NOW - 65, agent="ops-bot")])) as hands:
        screen = hands.screen()
        assert "Nothing waits for you" in screen
        assert "Last: ops-bot, 1:0" in screen
        assert "(agent.py, pid 4242)" in screen
        assert "ledger ledger.db" in screen


async def test_stale_is_said_when_no_reading_comes(run) -> None:
    ledger = FakeLedger(three())
    async with run(ledger) as hands:
        gate, is_read = threading.Event(), threading.Event()
        ledger.writer = lambda: is_read.set() or (gate.wait(30) and None)
        ledger.ring()
        await hands.until(is_read.is_set)
        hands.later(STALE_S + 0.1)
        await hands.until(lambda: "STALE" in hands.screen())
        gate.set()
        await hands.until(lambda: "LIVE" in hands.screen())


async def test_a_ledger_that_cannot_be_read_is_stale_and_says_why(run) -> None:
    ledger = FakeLedger(three())
    async with run(ledger) as hands:
        ledger.fail = LedgerError("the disk is full", code="ledger_full")
        ledger.ring()
        await hands.until(lambda: "the disk is full" in hands.said)
        assert "STALE" in hands.screen()
        ledger.fail = None
        ledger.ring()
        await hands.until(lambda: "LIVE" in hands.screen())
        assert "can be read again" in hands.said


async def test_every_call_to_the_ledger_is_made_off_the_event_loop(run) -> None:
    ledger = FakeLedger(three(), [event(1)])
    async with run(ledger) as hands:
        await hands.press("j", "d", "enter", "tab", "v")
        await hands.until(lambda: ledger.verdicts and hands.is_view_laid())
        await hands.press("escape", "s", "enter", "y")
        await hands.until(lambda: ledger.halts)
        assert threading.get_ident() not in ledger.threads
        assert ledger.threads


async def test_a_storm_of_changes_is_few_readings(run) -> None:
    ledger = FakeLedger()
    async with run(ledger) as hands:
        before = ledger.reads
        for n in range(10_000):
            ledger.trace.append(event(n + 1))
            ledger.ring()
        assert ledger.reads - before <= 25  # as many as fit into the storm's own time at 20 a second
        await hands.until(lambda: trace_of(hands)._shown and trace_of(hands)._shown[-1].seq == 10_000)


async def test_a_slow_ledger_does_not_stop_the_keys(run) -> None:
    ledger = FakeLedger(three())
    async with run(ledger) as hands:
        gate = threading.Event()
        ledger.writer = lambda: gate.wait(30) and None
        ledger.ring()
        await hands.press("j", "j")
        assert hands.selected == "82aa5e10"
        gate.set()


# stop and help


async def test_s_stops_the_run_under_the_cursor_after_a_confirmation(run) -> None:
    ledger = FakeLedger(three())
    async with run(ledger) as hands:
        await hands.press("j", "s")
        assert isinstance(hands.app.screen, StopDialogue)
        assert "Stop session s-1 of ops-bot" in hands.screen()
        await hands.press("y")  # nothing is chosen yet
        await hands.press("enter", "enter", "enter")
        assert ledger.halts == []
        await hands.press("y")
        await hands.until(lambda: ledger.halts)
        [stop] = ledger.halts
        assert (stop.scope, stop.value, stop.by) == (StopScope.SESSION, "s-1", "carol")
        await hands.until(lambda: "1 stopped" in hands.screen())


@pytest.mark.parametrize(
    ("downs", "scope", "value"), [(1, StopScope.AGENT, "support-bot"), (2, StopScope.ALL, "")]
)
async def test_an_agent_or_everything_can_be_stopped(run, downs: int, scope: StopScope, value: str) -> None:
    ledger = FakeLedger(three())
    async with run(ledger) as hands:
        await hands.press("s", *["j"] * downs, "enter", "y")
        await hands.until(lambda: ledger.halts)
        assert (ledger.halts[0].scope, ledger.halts[0].value) == (scope, value)


async def test_a_stop_can_be_left_and_lifted(run) -> None:
    ledger = FakeLedger()
    ledger.stop(StopScope.AGENT, "ops-bot", by="bob")
    async with run(ledger) as hands:
        await hands.until(lambda: "1 stopped" in hands.screen())
        await hands.press("s", "enter", "escape", "escape")
        assert hands.app.screen is hands.app.main
        await hands.press("s", "G", "enter")
        assert "Lift: agent ops-bot (stopped by bob)" in hands.screen()
        await hands.press("y")
        await hands.until(lambda: not ledger.halts)
        await hands.until(lambda: "lifted the stop" in hands.said)


async def test_help_explains_keys_and_filter(run) -> None:
    async with run(FakeLedger(three()), size=(100, 40)) as hands:
        await hands.press("question_mark")
        assert isinstance(hands.app.screen, HelpDialogue)
        for words in ("approve", "risk>=med", "tool:mail", "Enter opens, it never approves", "STALE"):
            assert words in hands.screen()
        await hands.press("escape")
        assert hands.app.screen is hands.app.main


async def test_several_that_went_at_once_are_one_message(run) -> None:
    ledger = FakeLedger([approval(f"{n:04x}0000") for n in range(6)])
    async with run(ledger) as hands:
        with ledger._lock:
            ledger.rows = {}
        ledger.ring()
        await hands.until(lambda: "6 requests no longer wait" in hands.said)


async def test_an_expired_request_says_so_and_is_not_called_denied(run) -> None:
    ledger = FakeLedger([approval("81bc0000", expires_at=NOW - 1)])
    async with run(ledger) as hands:
        assert "over" in hands.screen()
        ledger.change("81bc0000", state=State.EXPIRED)
        await hands.until(lambda: "expired" in hands.said)
        assert "denied" not in hands.said


async def test_q_quits(run) -> None:
    async with run(FakeLedger(three())) as hands:
        await hands.press("q")
        assert hands.app.return_code == 0
