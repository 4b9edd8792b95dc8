from __future__ import annotations

import pytest

from fumehood.approval import IllegalTransition, Move, State
from fumehood.cli import failures
from fumehood.errors import (
    BindError,
    ConfigError,
    ConfinementError,
    Denied,
    FumehoodError,
    LedgerError,
    PdpError,
    Withheld,
)
from fumehood.model import Decision

EXTRAS = {"langchain": "langchain"}


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (Denied(Decision.deny("denied_by_policy", "no")), "denied_by_policy", 1),
        (Withheld(Decision.deny("pii", "no")), "pii", 1),
        (IllegalTransition(State.DENIED, Move.APPROVE), "already_decided", 1),
        (IllegalTransition(State.EXPIRED, Move.APPROVE), "approval_expired", 1),
        (IllegalTransition(State.CANCELLED, Move.APPROVE), "approval_cancelled", 1),
        (IllegalTransition(State.SUPERSEDED, Move.APPROVE), "approval_superseded", 1),
        (LedgerError("x", code="own_request"), "own_request", 1),
        (LedgerError("x", code="ledger_full"), "ledger_full", 5),
        (ConfinementError("x", layer="seccomp", remedy="y"), "cannot_confine", 4),
        (ConfigError("x"), "configuration", 3),
        (PdpError("x", code="pdp_timeout"), "pdp_timeout", 3),
        (BindError("x"), "bad_arguments", 2),
        (failures.UnknownIdError("x"), "unknown_id", 2),
        (FumehoodError("x"), "error", 3),
        (ModuleNotFoundError("x", name="langchain.agents"), "missing_extra", 3),
    ],
)
def test_every_error_has_its_exit_code(error: Exception, code: str, exit_code: int) -> None:
    found = failures.explain(error, extras=EXTRAS)
    assert found is not None
    assert (found.code, found.exit_code) == (code, exit_code)


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), ModuleNotFoundError("x", name="numpy")])
def test_what_is_no_error_of_ours_is_not_explained(error: Exception) -> None:
    assert failures.explain(error, extras=EXTRAS) is None
