"""The main screen: header, what waits, the selected request, the trace. Shows values, posts wishes."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Footer

from fumehood.approval import Move
from fumehood_tui.bar import Bar
from fumehood_tui.detail import Detail
from fumehood_tui.document import Document
from fumehood_tui.glyphs import Glyphs
from fumehood_tui.header import Header, Pulse
from fumehood_tui.messages import EndSeen, StopWanted, VerdictWanted, ViewWanted
from fumehood_tui.pending import Pending
from fumehood_tui.query import EVERYTHING, Query
from fumehood_tui.trace import Trace
from fumehood_tui.view import Key, Request, Row, Snapshot

__all__ = ["MainScreen"]


class MainScreen(Screen[None]):
    """One screen for everything that comes and goes by itself; nothing that comes takes the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "verdict(True)", "approve"),
        Binding("d", "verdict(False)", "deny"),
        Binding("v", "view", "view"),
        Binding("enter", "view", "view", show=False),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("f", "follow", "follow"),
        Binding("s", "stop", "stop"),
        Binding("escape", "clear", "clear", show=False),
        Binding("tab", "app.focus_next", "other list", show=False),
        Binding("question_mark", "app.help", "help", key_display="?"),
        Binding("q", "app.quit", "quit"),
    ]
    AUTO_FOCUS = "#pending"
    DEFAULT_CSS = """
    MainScreen > #desk { height: 1fr; min-height: 9; }
    MainScreen #pending { width: 46%; border: round $panel-lighten-2; }
    MainScreen #detail { width: 1fr; border: round $panel-lighten-2; padding: 0 1; }
    MainScreen #trace { height: 32%; min-height: 5; border: round $panel-lighten-2; }
    MainScreen #pending, MainScreen #detail, MainScreen #trace {
        border-title-color: $accent; border-subtitle-color: $secondary;
    }
    MainScreen #pending:focus, MainScreen #trace:focus { border: round $primary; }
    """

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self.header = Header(id="header", glyphs=glyphs)
        self.pending = Pending(id="pending", glyphs=glyphs)
        self.detail = Detail(id="detail", glyphs=glyphs)
        self.trace = Trace(id="trace", glyphs=glyphs)
        self.bar = Bar(id="bar", glyphs=glyphs)
        self._query = EVERYTHING
        self._snapshot: Snapshot | None = None
        self._shown: Key | None = None
        self._covered: Key | None = None

    def compose(self) -> ComposeResult:
        yield self.header
        with Horizontal(id="desk"):
            yield self.pending
            yield self.detail
        yield self.trace
        yield self.bar
        yield Footer(show_command_palette=False)

    # values in

    @property
    def selected(self) -> Request | None:
        """The request under the cursor."""
        return self.pending.current

    def show(self, snapshot: Snapshot) -> None:
        """Show a reading of the ledger."""
        self._snapshot = snapshot
        self.header.show(snapshot)
        self.trace.append(snapshot.rows, is_reset=snapshot.is_reset)
        self._list()

    def show_document(self, request: Request, document: Document | None, *, trouble: str = "") -> None:
        """Show what is known of *request*, if it is still the selected one."""
        if self.selected is not None and self.selected.key == request.key:
            self._shown = request.key
            self.detail.show(request, document, trouble=trouble)

    def tick(self, now: float, pulse: Pulse) -> None:
        """It is *now* (Unix seconds)."""
        source = self._snapshot.source if self._snapshot else None
        self.header.tick(now, pulse)
        self.pending.tick(now, source)
        self.detail.tick(now)
        self.trace.tick(now, source)

    def say(self, words: str, *, is_alarm: bool = False) -> None:
        """Tell the person *words* (inert)."""
        self.bar.say(words, is_alarm=is_alarm)

    def _list(self) -> None:
        every = self._snapshot.requests if self._snapshot else ()
        rows = [request for request in every if self._query.accepts_request(request)]
        self.pending.show(rows, total=len(every), filter_text=self._query.text)

    # messages of the widgets

    def on_pending_selected(self, message: Pending.Selected) -> None:
        """Empty the detail pane at once: it must never show another request than the selected one."""
        self._shown = message.request.key if message.request else None
        self.detail.show(message.request, None)

    def on_detail_shown_whole(self, message: Detail.ShownWhole) -> None:
        message.stop()
        if self.is_current:  # what lies under a dialogue has not been seen
            self.post_message(EndSeen(message.key))

    def on_screen_resume(self) -> None:
        """A dialogue has gone: whatever changed under it is new to the person."""
        if self.selected is not None and self.selected.key != self._covered:
            self.post_message(Pending.Selected(self.selected, by_user=False))
        else:
            self.detail.arranged()

    def on_screen_suspend(self) -> None:
        self._covered = self.selected.key if self.selected else None

    def on_bar_filtered(self, message: Bar.Filtered) -> None:
        message.stop()
        self._choose(message.query)
        self._leave_filter()

    # keys

    def action_verdict(self, is_approve: bool) -> None:
        if (request := self.selected) is None:
            self.say("nothing is selected")
        elif request.key != self._shown:
            self.say("the row has just changed: look at it, then press again")
        else:
            self.post_message(VerdictWanted(request, Move.APPROVE if is_approve else Move.DENY))

    def action_view(self) -> None:
        if (what := self._near()) is not None:
            self.post_message(ViewWanted(what))

    def action_stop(self) -> None:
        self.post_message(StopWanted(self._near() or self.selected))

    def action_filter(self) -> None:
        self.bar.open(self._query.text)

    def action_follow(self) -> None:
        self.trace.follow(not self.trace.is_following)

    def action_clear(self) -> None:
        self._choose(EVERYTHING)
        self.say("")
        self._leave_filter()

    def _near(self) -> Request | Row | None:
        return self.trace.latest if self.trace.has_focus else self.selected

    def _choose(self, query: Query) -> None:
        if query != self._query:
            self._query = query
            self.trace.choose(query)
            self._list()

    def _leave_filter(self) -> None:
        if self.bar.has_class("-typing"):
            self.bar.close()
            self.pending.focus()
