"""The rules between a key and a verdict, without a screen."""

from __future__ import annotations

from fumehood.approval import Move
from fumehood_tui.desk import SETTLE_S, Desk
from fumehood_tui.view import Key

ONE, OTHER = Key("7f3a", 1, "d"), Key("81bc", 1, "d")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_was_not_shown_to_its_end_cannot_be_approved_but_can_be_denied() -> None:
    desk = Desk(Clock())
    assert "press v" in (desk.why_not(ONE, Move.APPROVE) or "")
    assert desk.why_not(ONE, Move.DENY) is None
    desk.saw_end(ONE)
    assert desk.why_not(ONE, Move.APPROVE) is None


def test_another_revision_or_digest_has_not_been_seen() -> None:
    desk = Desk(Clock())
    desk.saw_end(ONE)
    assert desk.why_not(Key("7f3a", 2, "d"), Move.APPROVE)
    assert desk.why_not(Key("7f3a", 1, "e"), Move.APPROVE)


def test_nothing_can_be_decided_for_400_ms_after_the_row_changed() -> None:
    clock = Clock()
    desk = Desk(clock)
    desk.saw_end(ONE)
    desk.settle()
    clock.now += SETTLE_S - 0.001
    assert desk.why_not(ONE, Move.APPROVE)
    assert desk.why_not(ONE, Move.DENY)
    clock.now += 0.002
    assert desk.why_not(ONE, Move.APPROVE) is None
    assert SETTLE_S == 0.4


def test_a_request_under_way_is_not_decided_twice() -> None:
    desk = Desk(Clock())
    desk.begin(ONE)
    assert "wait" in (desk.why_not(ONE, Move.DENY) or "")
    assert desk.why_not(OTHER, Move.DENY) is None
    desk.end(ONE)
    assert desk.why_not(ONE, Move.DENY) is None


def test_what_no_longer_waits_is_forgotten() -> None:
    desk = Desk(Clock())
    desk.saw_end(ONE)
    desk.begin(ONE)
    desk.keep_only({OTHER})
    assert desk.why_not(ONE, Move.APPROVE)
    assert not desk.is_under_way(ONE)
