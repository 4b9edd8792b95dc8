"""What the screens ask of the app. Screens decide nothing and read nothing themselves."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from fumehood.approval import Move
from fumehood_tui.view import Key, Request, Row

__all__ = ["EndSeen", "StopWanted", "VerdictWanted", "ViewWanted"]


@dataclass
class VerdictWanted(Message):
    """The person pressed approve or deny on *request*, as it is shown."""

    request: Request
    move: Move


@dataclass
class ViewWanted(Message):
    """The person wants to see all of a request or of an event."""

    what: Request | Row


@dataclass
class EndSeen(Message):
    """All of the request with this key was on screen."""

    key: Key


@dataclass
class StopWanted(Message):
    """The person wants to stop a run; *near* is what the cursor is on."""

    near: Request | Row | None
