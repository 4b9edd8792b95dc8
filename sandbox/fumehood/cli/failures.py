"""Errors as the shell tells them: one message, one code, one exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import click

from fumehood.approval import IllegalTransition, State
from fumehood.cli.output import echo_json
from fumehood.display import inert
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

__all__ = ["Failure", "UnknownIdError", "explain", "known_ids", "show"]

NO, USAGE, CONFIGURATION, CONFINEMENT, LEDGER = 1, 2, 3, 4, 5

# Answers of the ledger that mean "no", not "I cannot be used".
_REFUSALS = frozenset({"own_request", "digest_mismatch", "stopped", "signed_verdicts_unavailable"})

_LATE = {
    State.EXPIRED: ("approval_expired", "it has expired: nobody answered in time"),
    State.CANCELLED: ("approval_cancelled", "it was cancelled: its caller is gone, or the run was stopped"),
    State.SUPERSEDED: ("approval_superseded", "a newer request has taken its place"),
    State.PENDING: ("still_pending", "it is still pending"),
}


class UnknownIdError(FumehoodError):
    """Nothing has the id that was given."""


@dataclass(frozen=True, slots=True)
class Failure:
    message: str
    code: str
    exit_code: int


@contextlib.contextmanager
def known_ids() -> Iterator[None]:
    """Around one question to the ledger: its KeyError is about what the user gave."""
    try:
        yield
    except KeyError as error:
        raise UnknownIdError(str(error.args[0])) from error


def explain(error: Exception, *, extras: Mapping[str, str]) -> Failure | None:
    """What *error* means to a person at a shell; None if it is no error of ours.

    *extras* says which extra brings which module.
    """
    match error:
        case IllegalTransition():
            code, words = _LATE.get(
                error.state, ("already_decided", f"somebody was faster: it is {error.state}")
            )
            return Failure(words, code, NO)
        case Denied() | Withheld():
            return Failure(str(error), error.code, NO)
        case LedgerError():
            return Failure(str(error), error.code, NO if error.code in _REFUSALS else LEDGER)
        case ConfinementError():
            return Failure(str(error), "cannot_confine", CONFINEMENT)
        case PdpError():
            return Failure(str(error), error.code, CONFIGURATION)
        case BindError():
            return Failure(str(error), "bad_arguments", USAGE)
        case ConfigError():
            return Failure(str(error), "configuration", CONFIGURATION)
        case UnknownIdError():
            return Failure(str(error), "unknown_id", USAGE)
        case FumehoodError():
            return Failure(str(error), "error", CONFIGURATION)
        case ModuleNotFoundError():
            return _missing(error, extras)
        case _:
            return None


def show(failure: Failure, *, as_json: bool) -> None:
    """On stderr for a person; on stdout for a program."""
    if as_json:
        echo_json({"error": {"code": failure.code, "message": failure.message}})
    else:
        click.echo(f"fumehood: {inert(failure.message, multiline=True)}", err=True)


def _missing(error: ModuleNotFoundError, extras: Mapping[str, str]) -> Failure | None:
    top = (error.name or "").partition(".")[0]
    if top not in extras:
        return None
    text = f"this command needs {top}, which is not installed; run: pip install 'fumehood[{extras[top]}]'"
    return Failure(text, "missing_extra", CONFIGURATION)
