"""The door to the ledger: readings, verdicts and stops, without a screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from fumehood.approval import Move, State
from fumehood.errors import LedgerError
from fumehood.ledger.protocol import StopScope
from fumehood_tui.store import MAX_REQUESTS, MAX_ROWS, Store, local_user
from fumehood_tui.view import Key
from tui.fake import NOW, FakeLedger, approval, event, lost, three


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    path.touch()
    return path


def store_on(ledger: FakeLedger, path: Path) -> Store:
    return Store(path, lambda _: ledger.as_ledger(), by="carol", clock=lambda: NOW)


def test_a_ledger_that_does_not_exist_is_waited_for_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "later.db"
    ledger = FakeLedger(three())
    opened: list[str] = []
    store = Store(path, lambda p: (opened.append(p), ledger.as_ledger())[1])
    snapshot = store.poll()
    assert (snapshot.source.exists, snapshot.source.path, opened) == (False, str(path), [])
    assert not path.exists()
    path.touch()
    assert len(store.poll().requests) == 3
    assert opened == [str(path)]


def test_opening_takes_nothing_from_the_first_reading(file: Path) -> None:
    store = store_on(FakeLedger(three(), [event(1)]), file)
    assert store.open()
    snapshot = store.poll()
    assert snapshot.is_reset
    assert len(snapshot.rows) == 1


def test_a_ledger_that_was_replaced_is_opened_anew(file: Path) -> None:
    ledgers = [FakeLedger(three(), [event(7)]), FakeLedger([approval("aaaa1111")], [event(1)])]
    rest = iter(ledgers)
    store = Store(file, lambda _: next(rest).as_ledger())
    store.poll()
    other = file.with_name("new.db")
    other.touch()
    other.rename(file)
    snapshot = store.poll()
    assert ledgers[0].is_closed
    assert snapshot.is_reset
    assert [r.key.id for r in snapshot.requests] == ["aaaa1111"]
    assert [row.seq for row in snapshot.rows] == [1]


def test_a_ledger_that_vanishes_is_waited_for_again(file: Path) -> None:
    ledger = FakeLedger(three())
    store = store_on(ledger, file)
    store.poll()
    file.unlink()
    snapshot = store.poll()
    assert not snapshot.source.exists
    assert snapshot.requests == ()
    assert ledger.is_closed


def test_after_an_error_the_next_reading_starts_afresh(file: Path) -> None:
    ledger = FakeLedger(three(), [event(1)])
    store = store_on(ledger, file)
    store.poll()
    ledger.fail = LedgerError("disk full", code="ledger_full")
    with pytest.raises(LedgerError):
        store.poll()
    ledger.fail = None
    again = store.poll()
    assert again.is_reset
    assert len(again.rows) == 1


def test_the_soonest_to_expire_comes_first_and_what_never_expires_last(file: Path) -> None:
    ledger = FakeLedger([approval("cccc0000", expires_at=None), *reversed(three())])
    ids = [r.key.id[:4] for r in store_on(ledger, file).poll().requests]
    assert ids == ["7f3a", "81bc", "82aa", "cccc"]


def test_only_new_events_are_handed_on(file: Path) -> None:
    ledger = FakeLedger(events=[event(1), event(2)])
    store = store_on(ledger, file)
    assert [row.seq for row in store.poll().rows] == [1, 2]
    ledger.happen(event(3))
    snapshot = store.poll()
    assert [row.seq for row in snapshot.rows] == [3]
    assert not snapshot.is_reset
    assert store.poll().rows == ()


def test_what_a_flood_of_events_skips_is_counted(file: Path) -> None:
    ledger = FakeLedger(events=[event(1)])
    store = store_on(ledger, file)
    store.poll()
    ledger.trace += [event(n) for n in range(2, MAX_ROWS + 502)]
    rows = store.poll().rows
    assert "500 events are not shown" in rows[0].summary
    assert [row.seq for row in rows[1:]] == list(range(502, MAX_ROWS + 502))


def test_the_source_names_the_last_writer_and_when(file: Path) -> None:
    source = (
        store_on(FakeLedger(events=[event(1), event(2, agent="ops-bot", at=NOW - 5)]), file).poll().source
    )
    assert (source.last_writer, source.last_program, source.last_at) == (
        "ops-bot",
        "agent.py, pid 4242",
        NOW - 5,
    )
    assert store_on(FakeLedger(), file).poll().source.last_at is None


def test_more_requests_than_the_list_holds_are_said(file: Path) -> None:
    many = [approval(f"{n:08x}") for n in range(MAX_REQUESTS + 1)]
    snapshot = store_on(FakeLedger(many), file).poll()
    assert (len(snapshot.requests), snapshot.has_more) == (MAX_REQUESTS, True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": State.APPROVED, "decided_by": "bob"}, "was approved by bob"),
        ({"state": State.DENIED, "decided_by": "bob", "note": "not today"}, "was denied by bob: not today"),
        ({"state": State.EXPIRED}, "expired"),
        ({"revision": 2}, "newer revision"),
    ],
)
def test_what_became_of_a_request_is_told(file: Path, change: dict[str, object], words: str) -> None:
    ledger = FakeLedger(three())
    store = store_on(ledger, file)
    store.poll()
    ledger.change("7f3a91c2", **change)
    [gone] = store.poll().gone
    assert gone.key.id == "7f3a91c2"
    assert words in gone.what


def test_a_verdict_names_exactly_what_was_shown(file: Path) -> None:
    ledger = FakeLedger(three())
    store = store_on(ledger, file)
    request = store.poll().requests[0]
    answer = store.decide(request, Move.DENY, note="no")
    [verdict] = ledger.verdicts
    assert answer.is_done
    assert Key(verdict.id, verdict.revision, verdict.digest) == request.key
    assert (verdict.move, verdict.by, verdict.note) == (Move.DENY, "carol", "no")


def test_a_verdict_on_what_changed_meanwhile_does_not_take_effect(file: Path) -> None:
    ledger = FakeLedger(three())
    store = store_on(ledger, file)
    request = store.poll().requests[0]
    ledger.change(request.key.id, digest="other")
    answer = store.decide(request, Move.APPROVE)
    assert not answer.is_done
    assert "digest_mismatch" in answer.message
    assert ledger.verdicts == []


def test_a_lost_race_says_who_was_faster(file: Path) -> None:
    ledger = FakeLedger(three())
    store = store_on(ledger, file)
    request = store.poll().requests[0]
    ledger.change(request.key.id, state=State.DENIED, decided_by="bob")
    answer = store.decide(request, Move.APPROVE)
    assert not answer.is_done
    assert answer.message == "too late to approve: #7f3a issue_refund was denied by bob"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("7f3a91c2"), "not in the ledger any more"),
        (LedgerError("of your own process", code="own_request"), "own_request"),
        (lost(), "too late"),
    ],
)
def test_every_refusal_of_the_ledger_is_told(file: Path, error: Exception, words: str) -> None:
    ledger = FakeLedger(three())
    store = store_on(ledger, file)
    request = store.poll().requests[0]
    ledger.refuse = error
    answer = store.decide(request, Move.APPROVE)
    assert not answer.is_done
    assert words in answer.message


def test_nothing_is_decided_or_stopped_without_a_ledger(tmp_path: Path, file: Path) -> None:
    request = store_on(FakeLedger(three()), file).poll().requests[0]
    store = Store(tmp_path / "none.db", lambda _: FakeLedger().as_ledger())
    assert "ledger_closed" in store.decide(request, Move.APPROVE).message
    assert "NOT stopped" in store.stop(StopScope.ALL, "").message
    assert "not lifted" in store.lift(StopScope.ALL, "").message


def test_a_document_belongs_to_exactly_one_revision(file: Path) -> None:
    ledger = FakeLedger(three())
    store = store_on(ledger, file)
    request = store.poll().requests[0]
    assert store.document(request.key).lines
    ledger.change(request.key.id, revision=2)
    store.poll()
    with pytest.raises(KeyError):
        store.document(request.key)


def test_stops_and_lifts_reach_the_ledger(file: Path) -> None:
    ledger = FakeLedger()
    store = store_on(ledger, file)
    store.poll()
    assert store.stop(StopScope.AGENT, "ops-bot").message.startswith("stopped agent ops-bot")
    [halt] = store.poll().halts
    assert (halt.raw_value, "stopped by carol" in halt.label) == ("ops-bot", True)
    assert store.lift(StopScope.AGENT, "ops-bot").is_done
    assert not store.lift(StopScope.AGENT, "ops-bot").is_done
    assert store.poll().halts == ()


def test_the_local_user_has_a_name() -> None:
    assert local_user()
