"""`fumehood policy eval|explain`: what the policies say of one call, and how they came to it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING

import click

from fumehood.cli.failures import UnknownIdError, known_ids
from fumehood.cli.output import each_event, echo_json, json_option, ledger_option, open_existing
from fumehood.cli.policy_keys import signed_option
from fumehood.cli.policy_output import refusing
from fumehood.cli.policy_sources import sources_argument
from fumehood.display import inert

if TYPE_CHECKING:
    from collections.abc import Callable

    from fumehood.canonical import JSON
    from fumehood.ledger import Ledger
    from fumehood.pdp.keys import Keys
    from fumehood.workbench.tools import ToolSchema

__all__ = ["evaluate", "explain"]

_NO = 1


def _call_options(command: Callable[..., None]) -> Callable[..., None]:
    """SOURCES and the call: what `eval` and `explain` share."""
    for option in (
        json_option,
        ledger_option,
        click.option(
            "--call",
            "call",
            metavar="ID",
            help="A recorded call: the number of a trace event, or a request's id.",
        ),
        click.option(
            "-i", "--input", "given", type=click.File("rb"), help="A JSON file, - is stdin [default: -]."
        ),
        signed_option,
        sources_argument,
    ):
        command = option(command)
    return command


@click.command("eval")
@_call_options
def evaluate(
    *,
    sources: tuple[str, ...],
    signed_by: Keys,
    given: IO[bytes] | None,
    call: str | None,
    ledger: str | None,
    as_json: bool,
) -> None:
    """Decide one call by SOURCES (folders, bundles, names of packs; default ./policies).

    The call is JSON: {"tool": …, "args": {…}}, with "origins": {POINTER: ORIGIN} and any part of "subject",
    "action", "resource" and "context" where it matters. What is left out is filled in.

    Exit code: 0 permitted (at once or after a person agrees), 1 denied, 2 the call is not understood, or no
    such source, 3 the policies cannot be used, 5 the ledger cannot be used.
    """
    from fumehood.errors import PdpError
    from fumehood.workbench.explain import Explainer
    from fumehood.workbench.explain_text import answer_word, decision_dict, decision_lines
    from fumehood.workbench.loading import tools_of

    policies = sources or ("./policies",)
    with refusing(as_json=as_json):
        document = _document(given, call, ledger, tools_of(policies, signed_by) if call is None else ())
        explainer = Explainer(policies, signed_by=signed_by)
    try:
        decision, error = explainer.decide(document), ""
    except PdpError as problem:
        decision, error = None, f"{problem.code}: {problem}"
    if as_json:
        said = decision_dict(decision) if decision else None
        echo_json({"answer": answer_word(decision), "decision": said, "error": error or None})
    else:
        _say(decision_lines(decision, error))
    if decision is None or not decision.is_permit:
        click.get_current_context().exit(_NO)


@click.command()
@_call_options
@click.option("-v", "--verbose", is_flag=True, help="Show the rules of which no condition holds, too.")
def explain(
    *,
    sources: tuple[str, ...],
    signed_by: Keys,
    given: IO[bytes] | None,
    call: str | None,
    ledger: str | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Say which rules of SOURCES fired for one call, which nearly did, and the condition that stopped them.

    The call is given as to `fumehood policy eval`.

    Exit code: 0 explained, 2 the call is not understood, or no such source, 3 the policies cannot be used, 5
    the ledger cannot be used.
    """
    from fumehood.workbench.explain import Explainer
    from fumehood.workbench.explain_text import as_dict, explanation_lines
    from fumehood.workbench.loading import tools_of

    policies = sources or ("./policies",)
    with refusing(as_json=as_json):
        document = _document(given, call, ledger, tools_of(policies, signed_by) if call is None else ())
        explainer = Explainer(policies, signed_by=signed_by)
    found = explainer.explain(document)
    if as_json:
        echo_json(as_dict(found))
    else:
        _say(explanation_lines(found, is_verbose=verbose))


def _document(
    given: IO[bytes] | None, call: str | None, ledger: str | None, tools: Sequence[ToolSchema]
) -> JSON:
    """The policy input that is asked about. *tools* know their annotations.

    Raises:
        BindError: what was written is not understood.
        UnknownIdError: nothing recorded has that id.
    """
    from fumehood.workbench.call_input import document_from

    if call is None:
        from fumehood.canonical import parse

        return document_from(parse(given.read() if given is not None else _stdin()), tools=tools)
    if given is not None:
        raise click.UsageError("--call and --input exclude each other")
    with known_ids():
        document: JSON = json.loads(_recorded(open_existing(ledger), call))
    return document


def _stdin() -> bytes:
    if sys.stdin.isatty():
        raise click.UsageError("name the call: -i FILE, --call ID, or JSON on stdin")
    return sys.stdin.buffer.read()


def _recorded(book: Ledger, call: str) -> bytes:
    """The recorded policy input of a decision by its number, of another event's call, or of a request."""
    if not call.isdecimal() or len(call) > 18:
        approval = book.approval(call)
        return _of_attempt(book, approval.session_id, approval.attempt_id)
    event = book.event(int(call))
    if event.kind == "decision":
        return book.policy_input(event.seq)
    return _of_attempt(book, event.session_id, event.attempt_id)


def _of_attempt(book: Ledger, session: str, attempt: str) -> bytes:
    for event in each_event(book, session=session):
        if attempt and event.kind == "decision" and event.attempt_id == attempt:
            return book.policy_input(event.seq)
    raise UnknownIdError("no decision is recorded for that call")


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(inert(line))
