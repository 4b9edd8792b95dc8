"""The detail pane: as much of the selected request as fits, and how much does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.message import Message
from textual.strip import Strip

from fumehood.model import Risk
from fumehood_tui.document import Document
from fumehood_tui.glyphs import UNICODE, WORDS, Glyphs
from fumehood_tui.paper import Paper
from fumehood_tui.view import Key, Request
from fumehood_tui.words import fitted, time_left

__all__ = ["Detail"]

_PARTS = {Risk.LOW: "detail--low", Risk.MEDIUM: "detail--medium", Risk.HIGH: "detail--high"}


class Detail(Paper, can_focus=False):
    """One request. Posts `Detail.ShownWhole` when all of it was on screen at once."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(_PARTS.values())
    DEFAULT_CSS = """
    Detail { overflow-y: hidden; scrollbar-gutter: auto; }
    Detail > .detail--high { color: $error; text-style: bold; }
    Detail > .detail--medium { color: $warning; text-style: bold; }
    Detail > .detail--low { color: $success; text-style: bold; }
    """

    @dataclass
    class ShownWhole(Message):
        """Nothing of the request with this key is clipped."""

        key: Key

    def __init__(self, *, id: str, glyphs: Glyphs = UNICODE) -> None:
        super().__init__(id=id, glyphs=glyphs)
        self._request: Request | None = None
        self._now = 0.0
        self._trouble = ""
        self.border_title = "Request"

    @property
    def clipped(self) -> int:
        """How many lines of the document are not on screen."""
        room = max(0, self.size.height - 1)
        return 0 if len(self.lines) <= room else len(self.lines) - max(0, room - 1)

    def show(self, request: Request | None, document: Document | None, *, trouble: str = "") -> None:
        """Show *request*; *document* follows later where it is still being made."""
        self._request, self._trouble = request, trouble
        self.border_title = Text(self._title(request))
        bound = self.glyphs.plain(document.bound) if document is not None else ""
        self.border_subtitle = Text(bound) if bound else None
        self.put(document)

    def tick(self, now: float) -> None:
        """It is *now* (Unix seconds)."""
        self._now = now
        self.refresh()

    def arranged(self) -> None:
        request, document = self._request, self._document
        is_whole = self.is_legible and not self.clipped and self.size.height > 1
        if request is not None and document is not None and not document.problem and is_whole:
            self.post_message(self.ShownWhole(request.key))

    def render_line(self, y: int) -> Strip:
        """Part of textual's line API."""
        width = self.room
        if self._request is None:
            return self.remark("" if y else self._trouble or "Nothing is selected.", width)
        if y == 0:
            return self.remark(*self._head(self._request, width))
        if not self.is_laid:
            return self.remark(self._trouble or "reading…" if y == 1 else "", width)
        return self._body(y - 1, width)

    def _body(self, row: int, width: int) -> Strip:
        if self.clipped and row == self.size.height - 2:
            return self.remark(f"clipped: +{self.clipped} lines, v to view all", width, "paper--warning")
        return self.strip(self.lines[row], width) if row < len(self.lines) else self.remark("", width)

    def _head(self, request: Request, width: int) -> tuple[str, int, str]:
        sign = f"{self.glyphs.risk(request.risk)} {WORDS[request.risk]}"
        left = time_left(request.expires_at, self._now)
        when = {"waits": "waits until decided", "over": "its time is over"}.get(left, f"expires in {left}")
        typed = f" {self.glyphs.dot} type its id" if request.risk is Risk.HIGH else ""
        return f"{sign} {self.glyphs.dot} {when}{typed}", width, _PARTS[request.risk]

    def _title(self, request: Request | None) -> str:
        if request is None:
            return "Request"
        title = self.glyphs.plain(f"{request.label}  {request.agent}")
        return fitted(title, min(len(title), max(8, self.size.width - 2)), self.glyphs.more)
