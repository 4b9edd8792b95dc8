"""Random walks over a ledger, held against the table of transitions and a model of claims."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from fumehood.approval import TRANSITIONS, IllegalTransition, Move, State
from fumehood.errors import LedgerError
from fumehood.ledger import ClaimState, Outcome, StopScope, open_ledger
from fumehood.model import ToolCall
from ledger.samples import SESSION, a_call, asked, verdict

PLAIN = [Move.EXPIRE, Move.CANCEL, Move.SUPERSEDE, Move.FINISH, Move.LOSE]
ENDS = [ClaimState.DONE, ClaimState.FAILED, ClaimState.INTERRUPTED, ClaimState.OUTCOME_UNKNOWN]


class LedgerMachine(RuleBasedStateMachine):
    """Two ledger objects on one file take turns; the model is two dicts."""

    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="fh-")
        path = Path(self.folder.name) / "l.db"
        self.ledgers = [open_ledger(path), open_ledger(path)]
        self.ledgers[0].open_session(SESSION)
        self.states: dict[str, State] = {}
        self.calls: dict[str, ToolCall] = {}
        self.claims: dict[str, ClaimState] = {}  # by call id
        self.open: dict[str, str] = {}  # request id → call id
        self.stopped = False

    def teardown(self) -> None:
        for ledger in self.ledgers:
            ledger.close()
        self.folder.cleanup()

    @rule(target=requests, which=st.integers(0, 1), call_id=st.sampled_from(["a", "b", "c"]))
    def ask(self, which: int, call_id: str) -> object:
        call = a_call(call_id=call_id)
        try:
            approval = asked(self.ledgers[which], call)
        except LedgerError as error:
            assert self.stopped
            assert error.code == "stopped"
            return multiple()
        assert not self.stopped
        self.states[approval.id] = State.PENDING
        self.calls[approval.id] = call
        return approval.id

    @rule(id=requests, which=st.integers(0, 1), move=st.sampled_from([Move.APPROVE, Move.DENY]))
    def decide(self, id: str, which: int, move: Move) -> None:
        ledger = self.ledgers[which]
        approval = ledger.approval(id)
        self._expect(id, move, lambda: ledger.decide(verdict(approval, move)).state)

    @rule(id=requests, which=st.integers(0, 1), move=st.sampled_from(PLAIN))
    def move(self, id: str, which: int, move: Move) -> None:
        if self.states[id] is State.CLAIMED:
            return  # only finishing the claim may end it; that is `finish` below
        self._expect(id, move, lambda: self.ledgers[which].move(id, move).state)

    @rule(id=requests, which=st.integers(0, 1))
    def claim(self, id: str, which: int) -> None:
        call = self.calls[id]
        call_id = call.call_id or ""
        before, held = self.states[id], self.claims.get(call_id)
        is_free = held in (None, ClaimState.FAILED, ClaimState.INTERRUPTED)
        try:
            taken = self.ledgers[which].claim(call, id)
        except LedgerError as error:
            assert (self.stopped, error.code) == (True, "stopped")
            return
        except IllegalTransition as error:
            assert before is not State.APPROVED
            assert error.state is before
            return
        assert before is State.APPROVED
        assert taken.is_mine == is_free
        if is_free:
            self.states[id], self.claims[call_id], self.open[id] = State.CLAIMED, ClaimState.OPEN, call_id
        else:
            assert taken.state is held
            self.states[id] = State.CANCELLED

    @rule(id=requests, which=st.integers(0, 1), end=st.sampled_from(ENDS))
    def finish(self, id: str, which: int, end: ClaimState) -> None:
        call_id = self.open.pop(id, None)
        try:
            self.ledgers[which].finish(self.calls[id], Outcome(end), claimed=True)
        except LedgerError as error:
            assert call_id is None
            assert error.code == "ledger_claim_lost"
            return
        assert call_id is not None
        self.claims[call_id] = end
        lost = end is ClaimState.OUTCOME_UNKNOWN
        self.states[id] = TRANSITIONS[State.CLAIMED, Move.LOSE if lost else Move.FINISH]

    @rule(which=st.integers(0, 1))
    def stop(self, which: int) -> None:
        self.ledgers[which].stop(StopScope.AGENT, "bot", by="olga")
        self.stopped = True
        for id_, state in self.states.items():
            if state in (State.PENDING, State.APPROVED):
                self.states[id_] = State.CANCELLED

    @rule(which=st.integers(0, 1))
    def lift(self, which: int) -> None:
        assert (self.ledgers[which].lift(StopScope.AGENT, "bot", by="olga") > 0) == self.stopped
        self.stopped = False

    @rule(which=st.integers(0, 1))
    def reap(self, which: int) -> None:
        assert self.ledgers[which].reap() == 0  # everybody lives

    @invariant()
    def both_see_what_the_table_says(self) -> None:
        for ledger in self.ledgers:
            assert {a.id: a.state for a in ledger.approvals(tuple(State))} == self.states

    def _expect(self, id: str, move: Move, act: object) -> None:
        before = self.states[id]
        expected = TRANSITIONS.get((before, move))
        try:
            after = act()  # type: ignore[operator]
        except IllegalTransition as error:
            assert expected is None
            assert error.state is before
        else:
            assert after is expected
            self.states[id] = after


TestMachine = LedgerMachine.TestCase
TestMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
