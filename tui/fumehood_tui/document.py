"""The full text of one request or event, and its lines at a width. Pure; may take a second for 1 MB.

Nothing is left out here: a pane that shows less says how much less. A line that had to be broken goes
on behind a mark, so that a value padded with spaces cannot pose as a further argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from rich.cells import cell_len

from fumehood.approval import Approval
from fumehood.display import inert, pretty
from fumehood.errors import BindError
from fumehood.ledger.protocol import Event
from fumehood.model import Approve
from fumehood_tui.glyphs import Glyphs
from fumehood_tui.words import chopped, stamp

__all__ = ["LABEL", "NARROW", "Document", "Line", "Role", "event_document", "laid", "request_document"]

LABEL = 7  # cells of a label and the space behind it
NARROW = 16  # cells; a pane that is narrower shows no whole line


class Role(Enum):
    """How a line is drawn."""

    PLAIN = "plain"
    VALUE = "value"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Line:
    """A label (our word, may be empty) and an inert text."""

    label: str
    text: str
    role: Role = Role.PLAIN


@dataclass(frozen=True, slots=True)
class Document:
    """What there is to see. `more` (whole digests, ids) is for the full view only and decides nothing.

    `problem`: why this cannot be approved from here, if it cannot. `bound`: digest and policy, short.
    """

    lines: tuple[Line, ...]
    more: tuple[Line, ...] = ()
    problem: str = ""
    bound: str = ""

    @property
    def size(self) -> int:
        """Characters; says whether laying it out is quick."""
        return sum(len(line.text) for line in self.lines)


def request_document(approval: Approval) -> Document:
    """Everything that a person should know before deciding *approval*."""
    arguments, problem = _arguments(approval.args)
    lines = [*_why(approval.reasons), *_rows("Rule", _asking(approval)), Line("Who", _who(approval))]
    if approval.injected:
        names = ", ".join(map(inert, approval.injected))
        lines.append(Line("Added", f"{names} (by the framework, not bound by this approval)", Role.WARNING))
    if problem:
        lines.append(Line("Args", problem, Role.WARNING))
    else:
        lines.append(Line("Args", f"canonical, {len(arguments)} line{'s' * (len(arguments) != 1)}"))
        lines += [Line("", text, Role.VALUE) for text in arguments]
    bound = f"digest {_brief(approval.digest)} policy {_brief(approval.policy_revision)}"
    return Document(tuple(lines), _identity(approval), problem=problem, bound=bound)


def event_document(event: Event) -> Document:
    """Everything that the trace holds about *event*."""
    attributes, problem = _arguments(event.attributes)
    lines = [
        Line("Time", stamp(event.at)),
        Line("Kind", inert(event.kind)),
        Line("Agent", inert(event.agent)),
        Line("Tool", inert(event.tool)),
        Line("Effect", inert(event.effect)),
        Line("Said", inert(event.summary)),
        Line("Run", inert(f"session {event.session_id}, attempt {event.attempt_id}")),
    ]
    body = [Line("", text, Role.VALUE) for text in attributes]
    last = [Line("More", problem, Role.WARNING)] if problem else [Line("More", "attributes"), *body]
    return Document(tuple(lines + last))


def laid(document: Document, width: int, glyphs: Glyphs, /, *, is_full: bool = False) -> list[Line]:
    """*document* as lines that fit into *width* cells, labels in the first one of each."""
    every = document.lines + (document.more if is_full else ())
    return [piece for line in every for piece in _pieces(line, max(NARROW, width), glyphs)]


def _pieces(line: Line, width: int, glyphs: Glyphs) -> Iterable[Line]:
    room = width if line.role is Role.VALUE else width - LABEL
    text = glyphs.plain(line.text)
    if text.isascii() and len(text) <= room:
        yield Line(line.label, text, line.role)
        return
    mark = glyphs.plain("↪ ")
    if line.role is Role.VALUE:
        first, *rest = _broken(text, room, room - len(mark))
    else:
        first, *rest = _folded(text, room - len(mark))
    yield Line(line.label, first, line.role)
    for piece in rest:
        yield Line("", mark + piece, line.role)


def _broken(text: str, first: int, later: int) -> list[str]:
    head = chopped(text[: 2 * first + 2], first)[0]
    rest = text[len(head) :]
    return [head, *chopped(rest, later)] if rest else [head]


def _folded(text: str, room: int) -> list[str]:
    """*text* broken between words where it can be, within them where it must."""
    pieces = [""]
    for word in re.findall(r"\S+ *| +", text):
        if pieces[-1] and cell_len(pieces[-1]) + cell_len(word.rstrip()) > room:
            pieces.append("")
        *whole, last = chopped(pieces[-1] + word.rstrip(), room)
        pieces[-1:] = [*whole, last + word[len(word.rstrip()) :]]
    return pieces


def _arguments(document: bytes) -> tuple[list[str], str]:
    try:
        return pretty(document).split("\n"), ""
    except (BindError, UnicodeDecodeError) as error:
        return [], f"cannot be shown, so it cannot be approved here: {inert(str(error))}"


def _why(reasons: Iterable[Approve]) -> list[Line]:
    return _rows("Why", [r.reason + (f" [{', '.join(r.controls)}]" if r.controls else "") for r in reasons])


def _asking(approval: Approval) -> Iterable[str]:
    """The rules that ask for a person; all that spoke where the ledger does not say which."""
    return dict.fromkeys(r.rule for r in approval.reasons if r.rule) or approval.rules


def _rows(label: str, texts: Iterable[str]) -> list[Line]:
    return [Line(label if n == 0 else "", inert(text)) for n, text in enumerate(texts)]


def _who(approval: Approval) -> str:
    user = f"for {approval.user}" if approval.user else "for an unknown user"
    return inert(f"{approval.agent} {user}, session {approval.session_id}")


def _brief(digest: str) -> str:
    return inert(digest.rpartition(":")[2][:8]) or "unknown"


def _identity(approval: Approval) -> tuple[Line, ...]:
    facts = {
        "Id": f"{approval.id}, revision {approval.revision}",
        "Asked": stamp(approval.created_at),
        "Rules": ", ".join(approval.rules),
        "Call": approval.call_id or "without an id",
        "Try": approval.attempt_id,
        "Digest": approval.digest,
        "Tool": approval.definition_digest,
        "Policy": approval.policy_revision,
    }
    return tuple(Line(label, inert(text)) for label, text in facts.items())
