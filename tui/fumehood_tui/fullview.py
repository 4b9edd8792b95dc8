"""The full view: every line of one request or event, and whether its end has been on screen."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.screen import Screen
from textual.strip import Strip
from textual.widgets import Footer, Static

from fumehood.approval import Move
from fumehood_tui.document import Document
from fumehood_tui.glyphs import WORDS, Glyphs
from fumehood_tui.messages import EndSeen, VerdictWanted
from fumehood_tui.paper import Paper
from fumehood_tui.view import Request

__all__ = ["FullView", "Reader"]


class Reader(Paper):
    """A document that scrolls. Posts `Reader.End` when its last line is on screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "scroll_down", "down", show=False),
        Binding("up,k", "scroll_up", "up", show=False),
        Binding("pagedown,space,ctrl+f", "page_down", "page down", show=False),
        Binding("pageup,ctrl+b", "page_up", "page up", show=False),
        Binding("home,g", "scroll_home", "first", show=False),
        Binding("G,end", "scroll_end", "end", key_display="G"),
    ]

    class End(Message):
        """The last line is on screen."""

    def arranged(self) -> None:
        self.virtual_size = Size(self.room, len(self.lines) + 1)
        self.call_after_refresh(self._look)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._look()

    def action_scroll_end(self) -> None:
        self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True)

    def action_scroll_home(self) -> None:
        self.scroll_to(y=0, animate=False, immediate=True)

    def render_line(self, y: int) -> Strip:
        """Part of textual's line API."""
        width = self.room
        if not self.is_laid:
            return self.remark("laying out…" if y == 0 else "", width)
        row = y + self.scroll_offset.y
        if row < len(self.lines):
            return self.strip(self.lines[row], width)
        return self.remark("(end)" if row == len(self.lines) else "", width)

    def _look(self) -> None:
        bottom = self.scroll_offset.y + self.size.height
        if self.is_legible and self.size.height and bottom >= len(self.lines):
            self.post_message(self.End())
        last = len(self.lines)
        self.border_subtitle = Text(f"{min(bottom, last)}/{last}") if self.is_laid else None


class FullView(Screen[None]):
    """All of one request (which can be decided here as well) or of one event."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "verdict(True)", "approve"),
        Binding("d", "verdict(False)", "deny"),
        Binding("escape,q,v", "leave", "back", key_display="Esc"),
    ]
    DEFAULT_CSS = """
    FullView > Reader { border: round $primary; height: 1fr; padding: 0 1; }
    FullView > #said { height: 1; padding: 0 1; color: $warning; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, title: str, document: Document, glyphs: Glyphs, /, *, request: Request | None) -> None:
        super().__init__()
        self._heading = title
        self._document = document
        self._glyphs = glyphs
        self.request = request
        self.is_over = False

    def compose(self) -> ComposeResult:
        reader = Reader(id="reader", glyphs=self._glyphs, is_full=True)
        reader.border_title = Text(self._glyphs.plain(self._title()))
        yield reader
        yield Static(Text(""), id="said", markup=False)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        reader = self.query_one(Reader)
        reader.put(self._document)
        reader.focus()

    def on_reader_end(self, message: Reader.End) -> None:
        message.stop()
        if self.request is not None and not self._document.problem:
            self.post_message(EndSeen(self.request.key))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """An event cannot be decided, nor what no longer waits."""
        return self._can_decide() if action == "verdict" else True

    def action_verdict(self, is_approve: bool) -> None:
        if self.request is not None and self._can_decide():
            self.post_message(VerdictWanted(self.request, Move.APPROVE if is_approve else Move.DENY))

    def action_leave(self) -> None:
        self.dismiss(None)

    def say(self, words: str) -> None:
        """A message for the person; inert."""
        self.query_one("#said", Static).update(Text(self._glyphs.plain(words)))

    def over(self, what: str) -> None:
        """The request no longer waits."""
        self.is_over = True
        self.say(f"It {what}. Nothing is left to decide; Esc goes back.")
        self.refresh_bindings()

    def _can_decide(self) -> bool:
        return self.request is not None and not self.is_over

    def _title(self) -> str:
        if self.request is None:
            return self._heading
        risk = self.request.risk
        return f"{self._heading}  {self._glyphs.risk(risk)} {WORDS[risk]}"
