"""The app: feeds readings to the screen, carries wishes to the ledger. Knows the rules of neither.

Three threads touch the ledger and none of them is the event loop: the feed (one, exclusive, at most
20 readings a second, however many events there are), documents, and verdicts.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import ClassVar

from rich.segment import Segment, Segments
from textual import work
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.worker import get_current_worker

from fumehood.approval import Move
from fumehood.display import inert
from fumehood.errors import LedgerError
from fumehood.ledger.protocol import StopScope
from fumehood.model import Risk
from fumehood_tui.backstop import Backstop
from fumehood_tui.desk import Desk
from fumehood_tui.dialogue import RequestDialogue
from fumehood_tui.dialogues import ConfirmDialogue, DenyDialogue, StopChoice, StopDialogue
from fumehood_tui.document import Document
from fumehood_tui.fullview import FullView
from fumehood_tui.glyphs import ASCII, UNICODE
from fumehood_tui.header import Pulse
from fumehood_tui.help import HelpDialogue
from fumehood_tui.main import MainScreen
from fumehood_tui.messages import EndSeen, StopWanted, VerdictWanted, ViewWanted
from fumehood_tui.pending import Pending
from fumehood_tui.stops import stop_choices
from fumehood_tui.store import Store
from fumehood_tui.theme import THEME
from fumehood_tui.view import Answer, Request, Row, Snapshot, Source, Trouble

__all__ = ["STALE_S", "FumehoodApp"]

STALE_S = 5.0  # without a reading for so long the screen says STALE (the ledger wakes us every 2 s)
_PACE_S = 0.05
_SLOW_S = 1.0


class FumehoodApp(App[None]):
    """What `fumehood tui` runs."""

    TITLE = "fumehood"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+q", "quit", show=False, priority=True)]
    CSS = """
    .-ascii .-border, .-ascii #pending, .-ascii #detail, .-ascii #trace, .-ascii #reader, .-ascii #box {
        border: ascii $primary;
    }
    .-ascii #pending:focus, .-ascii #trace:focus { border: ascii $primary; }
    .-ascii * { scrollbar-size-vertical: 0; }
    """

    def __init__(
        self,
        store: Store,
        /,
        *,
        is_ascii: bool = False,
        is_colorless: bool = False,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.no_color = self.no_color or is_colorless
        self._glyphs = ASCII if is_ascii else UNICODE
        self._backstop = Backstop(is_ascii=is_ascii, is_colorless=self.no_color)
        self._store = store
        self._clock = clock
        self._monotonic = monotonic
        self.desk = Desk(monotonic)
        self.main = MainScreen(self._glyphs)
        self._moved = threading.Event()
        self._read_at = monotonic()
        self._latest = Snapshot(Source(store.path, exists=False))
        self._trouble = ""

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Part of textual's App; the backstop comes last."""
        return [*super().get_line_filters(), self._backstop]

    def on_mount(self) -> None:
        self.register_theme(THEME)
        self.theme = "fumehood"
        self.set_class(self._glyphs.is_ascii, "-ascii")
        self.push_screen(self.main)
        self._store.on_change(self._moved.set)
        self.set_interval(0.5, self._tick)
        self.call_after_refresh(self._feed)
        for number in (signal.SIGTERM, signal.SIGHUP):  # leave the terminal as it was
            asyncio.get_running_loop().add_signal_handler(number, self.exit)

    def on_unmount(self) -> None:
        self._moved.set()

    # the feed

    @work(thread=True, exclusive=True, group="feed")
    def _feed(self) -> None:
        worker = get_current_worker()
        while not worker.is_cancelled:
            self._moved.clear()
            try:
                news: Snapshot | Trouble = self._store.poll()
            except LedgerError as error:
                news = Trouble(inert(str(error)))
            if not self._tell(self._show, news):
                return
            time.sleep(_PACE_S)
            self._moved.wait(_SLOW_S)

    def _tell(self, show: Callable[..., object], /, *values: object) -> bool:
        """Call *show* on the event loop; False if the app is gone."""
        try:
            self.call_from_thread(show, *values)
        except (RuntimeError, CancelledError):
            if self.is_running:
                raise
        return self.is_running

    def _show(self, news: Snapshot | Trouble) -> None:
        if isinstance(news, Trouble):
            if news.message != self._trouble:
                self._trouble = news.message
                self._say(f"the ledger cannot be read: {news.message}", is_alarm=True)
            self._tick()
            return
        if self._trouble:
            self._trouble = ""
            self._say("the ledger can be read again")
        before, self._latest = self._latest, news
        self._read_at = self._monotonic()
        self._report_gone(before, news)
        self.main.show(news)
        self.desk.keep_only({request.key for request in news.requests})
        self._tick()

    def _report_gone(self, before: Snapshot, news: Snapshot) -> None:
        labels = {request.key: request.label for request in before.requests}
        others = [gone for gone in news.gone if not self.desk.is_under_way(gone.key)]
        if len(others) > 3:
            self._say(f"{len(others)} requests no longer wait; the trace says why")
        elif others:
            self._say("; ".join(f"{labels.get(g.key, g.key.id)} {g.what}" for g in others))
        for screen in self.screen_stack:
            if isinstance(screen, RequestDialogue | FullView) and screen.request is not None:
                for gone in (g for g in news.gone if g.key == screen.request.key):
                    screen.over(gone.what)

    def _tick(self) -> None:
        if self.main.is_mounted:
            self.main.tick(self._clock(), self._pulse())

    def _pulse(self) -> Pulse:
        if self._trouble or self._monotonic() - self._read_at > STALE_S:
            return Pulse.STALE
        return Pulse.LIVE if self._latest.source.exists else Pulse.WAITING

    # documents

    def on_pending_selected(self, message: Pending.Selected) -> None:
        if not message.by_user:
            self.desk.settle()
        if message.request is not None:
            self._read(message.request)

    @work(thread=True, exclusive=True, group="document")
    def _read(self, request: Request) -> None:
        self._tell(self._show_document, request, *self._document(request))

    def _show_document(self, request: Request, document: Document | None, trouble: str) -> None:
        self.main.show_document(request, document, trouble=trouble)

    def on_view_wanted(self, message: ViewWanted) -> None:
        self._view(message.what)

    @work(thread=True, exclusive=True, group="view")
    def _view(self, what: Request | Row) -> None:
        self._tell(self._show_view, what, *self._document(what))

    def _show_view(self, what: Request | Row, document: Document | None, trouble: str) -> None:
        if document is None:
            self._say(trouble, is_alarm=True)
        elif self.screen is self.main:  # not over a dialogue that was opened meanwhile
            request = what if isinstance(what, Request) else None
            title = f"event {what.seq}" if isinstance(what, Row) else f"{what.label}  {what.agent}"
            self.push_screen(FullView(title, document, self._glyphs, request=request))

    def _document(self, what: Request | Row) -> tuple[Document | None, str]:
        try:
            if isinstance(what, Request):
                return self._store.document(what.key), ""
            return self._store.event(what.seq), ""
        except KeyError:
            return None, "it is not in the ledger any more"
        except LedgerError as error:
            return None, inert(str(error))

    def on_end_seen(self, message: EndSeen) -> None:
        self.desk.saw_end(message.key)

    # verdicts and stops

    def on_verdict_wanted(self, message: VerdictWanted) -> None:
        request, move = message.request, message.move
        if (obstacle := self.desk.why_not(request.key, move)) is not None:
            self._say(f"{request.label}: {obstacle}", is_alarm=True)
        elif move is Move.DENY:
            self.push_screen(DenyDialogue(request, self._glyphs), lambda note: self._denied(request, note))
        elif request.risk is Risk.HIGH:
            dialogue = ConfirmDialogue(request, self._glyphs, clock=self._monotonic)
            self.push_screen(dialogue, lambda is_sure: self._begin(request, move) if is_sure else None)
        else:
            self._begin(request, move)

    def _denied(self, request: Request, note: str | None) -> None:
        if note is not None:
            self._begin(request, Move.DENY, note)

    def _begin(self, request: Request, move: Move, note: str = "") -> None:
        self.desk.begin(request.key)
        self._say(f"{request.label}: asking the ledger{self._glyphs.more}")
        self._decide(request, move, note)

    @work(thread=True, group="verdict")
    def _decide(self, request: Request, move: Move, note: str) -> None:
        self._tell(self._decided, request, self._store.decide(request, move, note=note))

    def _decided(self, request: Request, answer: Answer) -> None:
        self.desk.settle()
        if not answer.is_done:
            self.desk.end(request.key)
        self._answered(answer)
        for screen in self.screen_stack:
            if isinstance(screen, FullView) and screen.request == request and answer.is_done:
                screen.over("is decided")

    def on_stop_wanted(self, message: StopWanted) -> None:
        choices = stop_choices(message.near, self._latest)
        self.push_screen(StopDialogue(choices, self._glyphs), self._stop_chosen)

    def _stop_chosen(self, choice: StopChoice | None) -> None:
        if choice is not None:
            self._stop(choice.scope, choice.raw_value, choice.is_lift)

    @work(thread=True, group="stop")
    def _stop(self, scope: StopScope, value: str, is_lift: bool) -> None:
        answer = self._store.lift(scope, value) if is_lift else self._store.stop(scope, value)
        self._tell(self._answered, answer)

    def _answered(self, answer: Answer) -> None:
        self._say(answer.message, is_alarm=not answer.is_done)
        self._moved.set()

    # the rest

    def action_help(self) -> None:
        self.push_screen(HelpDialogue(self._glyphs))

    def action_help_quit(self) -> None:
        """Part of textual's App: ctrl+c."""
        self._say("q quits; what waits goes on waiting")

    def _say(self, words: str, *, is_alarm: bool = False) -> None:
        self.main.say(words, is_alarm=is_alarm)
        if isinstance(self.screen, FullView):
            self.screen.say(words)

    def _fatal_error(self) -> None:
        """Part of textual's App: a crash prints no locals and nothing that a terminal obeys."""
        error = self._exception
        words = f"fumehood tui has failed: {type(error).__name__}: {inert(str(error))}\n"
        self._exit_renderables.append(Segments([Segment(words)]))
        self._close_messages_no_wait()
