"""Approving and denying: what a key does, what it never does, and who was faster."""

from __future__ import annotations

import pytest

from fumehood.approval import Move, State
from fumehood.canonical import canonical
from fumehood.errors import LedgerError
from fumehood.model import Approve, Risk
from fumehood_tui.dialogues import ConfirmDialogue, DenyDialogue
from tui.fake import NOW, FakeLedger, approval, event, lost, three

MEDIUM = (Approve("why", Risk.MEDIUM),)
HIGH = (Approve("why", Risk.HIGH),)


def medium(*ids: str) -> list:
    return [approval(id, reasons=MEDIUM, expires_at=NOW + 100 + n) for n, id in enumerate(ids)]


async def test_a_approves_exactly_what_is_shown(run) -> None:
    ledger = FakeLedger(medium("81bc0000"))
    async with run(ledger) as hands:
        await hands.press("a")
        await hands.until(lambda: ledger.verdicts)
        [verdict] = ledger.verdicts
        row = ledger.rows["81bc0000"]
        assert (verdict.id, verdict.revision, verdict.digest) == (row.id, row.revision, row.digest)
        assert (verdict.move, verdict.by) == (Move.APPROVE, "carol")
        await hands.until(lambda: hands.selected is None)
        assert hands.said == "approved #81bc issue_refund for support-bot"


async def test_d_denies_with_a_reason(run) -> None:
    ledger = FakeLedger(medium("81bc0000"))
    async with run(ledger) as hands:
        await hands.press("d", *"not now", "enter")
        await hands.until(lambda: ledger.verdicts)
        assert (ledger.verdicts[0].move, ledger.verdicts[0].note) == (Move.DENY, "not now")


async def test_deny_without_a_reason_has_no_note(run) -> None:
    ledger = FakeLedger(medium("81bc0000"))
    async with run(ledger) as hands:
        await hands.press("d", "enter")
        await hands.until(lambda: ledger.verdicts)
        assert ledger.verdicts[0].note is None


async def test_escape_leaves_the_deny_dialogue_without_a_verdict(run) -> None:
    ledger = FakeLedger(medium("81bc0000"))
    async with run(ledger) as hands:
        await hands.press("d", "x", "escape")
        assert hands.app.screen is hands.app.main
        assert ledger.verdicts == []


async def test_enter_never_approves(run) -> None:
    for row in (approval(reasons=MEDIUM), approval(reasons=HIGH)):
        ledger = FakeLedger([row])
        async with run(ledger) as hands:
            await hands.press("enter", "enter", "escape")
            await hands.press("a") if row.risk is Risk.HIGH else None
            await hands.press(*row.id) if row.risk is Risk.HIGH else None
            hands.later(1)
            await hands.press("enter", "enter", "enter")
            assert ledger.verdicts == []


async def test_a_high_risk_needs_its_id_typed_and_then_a(run) -> None:
    ledger = FakeLedger([approval("7f3a91c2", reasons=HIGH)])
    async with run(ledger) as hands:
        await hands.press("a")
        assert isinstance(hands.app.screen, ConfirmDialogue)
        await hands.press("a", "enter")  # an `a` that is not part of the id approves nothing
        assert "not this id" in hands.screen()
        await hands.press("backspace", *"7f3a", "a")  # a part of it is not enough
        hands.later(1)
        await hands.press("backspace", *"91c2")
        await hands.press("a")  # at once: a finger that slipped
        assert ledger.verdicts == []
        hands.later(0.5)
        await hands.press("a")
        await hands.until(lambda: ledger.verdicts)
        assert ledger.verdicts[0].move is Move.APPROVE


async def test_a_paste_types_no_id(run) -> None:
    from textual.events import Paste

    ledger = FakeLedger([approval("7f3a91c2", reasons=HIGH)])
    async with run(ledger) as hands:
        await hands.press("a")
        hands.app.screen.post_message(Paste("7f3a91c2"))
        await hands.press()
        hands.later(1)
        await hands.press("a")
        assert ledger.verdicts == []
        assert isinstance(hands.app.screen, ConfirmDialogue)


async def test_after_a_decision_the_next_row_needs_400_ms(run) -> None:
    ledger = FakeLedger(medium("aaaa0000", "bbbb0000"))
    async with run(ledger) as hands:
        await hands.press("a")
        await hands.until(lambda: hands.selected == "bbbb0000")
        await hands.until(lambda: hands.app.main.query_one("#detail").is_laid)
        await hands.press("a", "d")
        assert len(ledger.verdicts) == 1
        assert "has just changed" in hands.said
        assert hands.app.screen is hands.app.main
        hands.later(0.41)
        await hands.press("a")
        await hands.until(lambda: len(ledger.verdicts) == 2)
        assert [v.id for v in ledger.verdicts] == ["aaaa0000", "bbbb0000"]


async def test_a_row_that_slid_under_the_cursor_needs_400_ms_too(run) -> None:
    ledger = FakeLedger(medium("aaaa0000", "bbbb0000"))
    async with run(ledger) as hands:
        ledger.change("aaaa0000", state=State.CANCELLED)
        await hands.until(lambda: hands.selected == "bbbb0000")
        await hands.until(lambda: hands.app.main.query_one("#detail").is_laid)
        await hands.press("a")
        assert ledger.verdicts == []


async def test_a_changed_revision_must_be_looked_at_again(run) -> None:
    ledger = FakeLedger(medium("aaaa0000"))
    async with run(ledger) as hands:
        ledger.change("aaaa0000", revision=2, digest="d2", args=canonical({"amount_usd": 9999}))
        await hands.until(lambda: '"amount_usd": 9999' in hands.screen())
        await hands.press("a")
        assert ledger.verdicts == []
        hands.later(1)
        await hands.press("a")
        await hands.until(lambda: ledger.verdicts)
        assert (ledger.verdicts[0].revision, ledger.verdicts[0].digest) == (2, "d2")


async def test_a_decision_made_elsewhere_takes_the_row_away_and_is_told(run) -> None:
    ledger = FakeLedger(three())
    async with run(ledger) as hands:
        ledger.change("81bc04d7", state=State.DENIED, decided_by="bob", note="no")
        await hands.until(lambda: "81bc" not in hands.screen().split("Live trace")[0] or hands.said)
        await hands.until(lambda: "was denied by bob: no" in hands.said)
        assert hands.selected == "7f3a91c2"


@pytest.mark.parametrize(("key", "kind"), [("d", DenyDialogue), ("a", ConfirmDialogue)])
async def test_an_open_dialogue_says_who_decided_and_decides_nothing_more(run, key: str, kind: type) -> None:
    ledger = FakeLedger([approval("7f3a91c2", reasons=HIGH)])
    async with run(ledger) as hands:
        await hands.press(key)
        dialogue = hands.app.screen
        assert isinstance(dialogue, kind)
        ledger.change("7f3a91c2", state=State.APPROVED, decided_by="bob")
        await hands.until(lambda: dialogue.is_over)
        assert "was approved by bob" in hands.screen()
        await hands.press(*"7f3a91c2")
        hands.later(1)
        await hands.press("a", "enter")
        assert ledger.verdicts == []
        await hands.press("escape")
        assert hands.app.screen is hands.app.main


async def test_an_open_full_view_says_who_decided(run) -> None:
    ledger = FakeLedger(medium("81bc0000"))
    async with run(ledger) as hands:
        await hands.press("v")
        await hands.until(hands.is_view_laid)
        view = hands.app.screen
        ledger.change("81bc0000", state=State.DENIED, decided_by="bob")
        await hands.until(lambda: view.is_over)
        assert "was denied by bob" in hands.screen()
        hands.later(1)
        await hands.press("a", "d")
        assert hands.app.screen is view
        assert ledger.verdicts == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (lost(), "too late to approve"),
        (KeyError("x"), "not in the ledger any more"),
        (LedgerError("it is your own", code="own_request"), "own_request"),
        (LedgerError("not what was shown", code="digest_mismatch"), "digest_mismatch"),
    ],
)
async def test_a_verdict_that_did_not_count_is_told_plainly(run, error: Exception, words: str) -> None:
    ledger = FakeLedger(medium("81bc0000"))
    async with run(ledger) as hands:
        ledger.refuse = error
        await hands.press("a")
        await hands.until(lambda: words in hands.said)
        ledger.refuse = None
        hands.later(1)
        await hands.press("a")  # and it can be tried again
        await hands.until(lambda: ledger.verdicts)


async def test_two_quick_presses_are_one_verdict(run) -> None:
    ledger = FakeLedger(medium("81bc0000", "91bc0000"))
    async with run(ledger) as hands:
        await hands.press("a", "a", "a")
        await hands.until(lambda: ledger.verdicts)
        await hands.until(lambda: hands.selected == "91bc0000")
        assert len(ledger.verdicts) == 1


async def test_nothing_selected_decides_nothing(run) -> None:
    async with run() as hands:
        await hands.press("a", "d", "v")
        assert hands.said == "nothing is selected"
        assert hands.app.screen is hands.app.main


# what does not fit


def many_events() -> list:
    return [event(n, summary="9" * 200) for n in range(1, 50)]


LONG = canonical({f"field_{n:03}": "x" * 30 for n in range(60)})


async def test_what_is_clipped_says_so_and_must_be_viewed_to_its_end(run) -> None:
    ledger = FakeLedger([approval("81bc0000", reasons=MEDIUM, args=LONG)])
    async with run(ledger) as hands:
        assert "v to view all" in hands.screen()
        await hands.press("a")
        assert "press v" in hands.said
        assert ledger.verdicts == []
        await hands.press("v")
        await hands.until(hands.is_view_laid)
        await hands.press("a")  # the beginning was seen, not the end
        assert "press v" in hands.screen()
        await hands.press("G", "escape")
        assert hands.app.screen is hands.app.main
        await hands.press("a")
        await hands.until(lambda: ledger.verdicts)


async def test_the_full_view_decides_too_once_its_end_was_seen(run) -> None:
    ledger = FakeLedger([approval("81bc0000", reasons=MEDIUM, args=LONG)])
    async with run(ledger) as hands:
        await hands.press("v")
        await hands.until(hands.is_view_laid)
        await hands.press("G", "a")
        await hands.until(lambda: ledger.verdicts)
        await hands.until(lambda: "Nothing is left to decide" in hands.screen())


async def test_what_fits_the_full_view_was_seen_without_scrolling(run) -> None:
    ledger = FakeLedger(
        [approval("81bc0000", reasons=MEDIUM, args=canonical({str(n): n for n in range(10)}))]
    )
    async with run(ledger) as hands:
        await hands.press("a")
        assert "press v" in hands.said
        await hands.press("v")
        await hands.until(hands.is_view_laid)
        await hands.press("G", "escape", "a")
        await hands.until(lambda: ledger.verdicts)


async def test_no_cell_of_a_document_hides_behind_the_scrollbar(run) -> None:
    args = canonical({"text": "".join(chr(0x41 + n % 26) for n in range(4000))})
    ledger = FakeLedger([approval("81bc0000", reasons=MEDIUM, args=args)], many_events())
    async with run(ledger) as hands:
        assert hands.screen().count("9…") == 5  # each line of the trace shows that it was cut
        await hands.press("v")
        await hands.until(hands.is_view_laid)
        reader = hands.app.screen.query_one("#reader")
        await hands.until(lambda: reader.lines[10].text in hands.screen())
        for line in reader.lines[:18]:
            assert line.text in hands.screen()


async def test_arguments_that_cannot_be_shown_cannot_be_approved(run) -> None:
    ledger = FakeLedger([approval("81bc0000", reasons=MEDIUM, args=b'{"a": 1, "a": 2}')])
    async with run(ledger) as hands:
        await hands.press("a", "v")
        await hands.until(hands.is_view_laid)
        await hands.press("G", "a", "escape", "a")
        assert ledger.verdicts == []
        await hands.press("d", "enter")
        await hands.until(lambda: ledger.verdicts)
        assert ledger.verdicts[0].move is Move.DENY


async def test_a_megabyte_is_shown_and_can_be_decided(run) -> None:
    body = ("\x1b[2J" + "x" * 96) * 10_000
    ledger = FakeLedger([approval("81bc0000", reasons=MEDIUM, args=canonical({"body": body}))])
    async with run(ledger) as hands:
        assert "clipped: +" in hands.screen()
        await hands.press("v")
        await hands.until(hands.is_view_laid)
        await hands.press("a")
        assert ledger.verdicts == []
        await hands.press("G", "a")
        await hands.until(lambda: ledger.verdicts)


async def test_what_slid_under_an_open_dialogue_has_not_been_seen(run) -> None:
    ledger = FakeLedger(medium("aaaa0000", "bbbb0000"))
    async with run(ledger) as hands:
        await hands.press("d")
        ledger.change("aaaa0000", state=State.CANCELLED)
        await hands.until(lambda: hands.selected == "bbbb0000")
        await hands.until(lambda: hands.app.main.query_one("#detail").is_laid)
        hands.later(10)
        await hands.press("escape", "a")  # a finger that was faster than the eye
        assert ledger.verdicts == []
        assert "has just changed" in hands.said
        await hands.until(lambda: hands.app.main.query_one("#detail").is_laid)
        hands.later(1)
        await hands.press("a")
        await hands.until(lambda: ledger.verdicts)


@pytest.mark.parametrize("size", [(16, 8), (40, 12)])
async def test_a_small_terminal_breaks_nothing_and_approves_nothing_unseen(
    run, size: tuple[int, int]
) -> None:
    ledger = FakeLedger(medium("aaaa0000"))
    async with run(ledger, size=size) as hands:
        await hands.press("a")
        assert ledger.verdicts == []
        await hands.press("v")
        await hands.until(hands.is_view_laid)
        await hands.press("G", "escape", "d", "escape", "s", "escape", "question_mark", "escape")
        assert hands.app.screen is hands.app.main
