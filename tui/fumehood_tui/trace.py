"""The live trace: a tail over a bounded deque of values, drawn line by line, appended in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size

from fumehood_tui.glyphs import UNICODE, Glyphs, Tone, tone_of
from fumehood_tui.lines import Lines
from fumehood_tui.query import EVERYTHING, Query
from fumehood_tui.view import Row, Source
from fumehood_tui.words import age, fitted, stamp

__all__ = ["KEPT", "Trace"]

KEPT = 5000  # rows; older ones are in the ledger
_WHEEL = 3  # rows


class Trace(Lines[Row]):
    """The tail. It follows until the person moves in it; `f` follows again."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "follow", "follow", show=False)]
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"trace--{tone}" for tone in Tone}
    DEFAULT_CSS = """
    Trace > .trace--yes { color: $success; }
    Trace > .trace--no, Trace > .trace--stop { color: $error; text-style: bold; }
    Trace > .trace--ask { color: $warning; text-style: bold; }
    Trace > .trace--plain { color: $secondary; }
    """

    counts_rows = False  # the lower border names the ledger

    def __init__(self, *, id: str, glyphs: Glyphs = UNICODE, kept: int = KEPT) -> None:
        super().__init__(id=id, glyphs=glyphs)
        self._all: deque[Row] = deque(maxlen=kept)
        self._shown: deque[Row] = deque(maxlen=kept)
        self._rows = self._shown
        self._query = EVERYTHING
        self.is_following = True
        self._title()

    @property
    def latest(self) -> Row | None:
        """The row under the cursor, or the last one while it follows."""
        return self.current or (self._shown[-1] if self._shown else None)

    def tick(self, now: float, source: Source | None) -> None:
        """Say whose ledger this is and how long ago it was written (*now* in Unix seconds)."""
        if source is None or not source.exists:
            self.border_subtitle = None
            return
        last = "nobody has written yet"
        if source.last_at is not None:
            writer = fitted(source.last_writer, 16, self.glyphs.more).rstrip()
            last = f"last: {writer}, {age(now - source.last_at)} ago"
        room = max(12, self.size.width - len(last) - 14)
        path = source.path if len(source.path) <= room else self.glyphs.more + source.path[-room + 1 :]
        self.border_subtitle = Text(self.glyphs.plain(f"ledger {path}, {last}"))

    def append(self, rows: Iterable[Row], /, *, is_reset: bool = False) -> None:
        """Add *rows* at the end; with *is_reset* they are all there is."""
        fresh = list(rows)
        if is_reset:
            self._all.clear()
            self._shown.clear()
            self._at = -1
        self._all.extend(fresh)
        self._add([row for row in fresh if self._query.accepts_row(row)])

    def choose(self, query: Query) -> None:
        """Show only the rows that *query* accepts."""
        self._query = query
        self._shown.clear()
        self._at = -1
        self._add([row for row in self._all if query.accepts_row(row)])

    def follow(self, is_on: bool, /) -> None:
        """Stay at the end, or stay where it is."""
        self.is_following = is_on
        self._at = -1 if is_on else len(self._shown) - 1
        self._settled()

    def _add(self, rows: list[Row]) -> None:
        lost = max(0, len(self._shown) + len(rows) - (self._shown.maxlen or KEPT))
        self._shown.extend(rows)
        if lost and not self.is_following:  # what is looked at stays where it is on the screen
            self._at = max(0, self._at - lost)
            self.scroll_to(y=max(0, self.scroll_offset.y - lost), animate=False, immediate=True)
        self._settled()

    def _settled(self) -> None:
        self.virtual_size = Size(self.room, max(1, len(self._shown)))
        self._title()
        if self.is_following:
            last = max(0, len(self._shown) - self.size.height)
            self.scroll_to(y=last, animate=False, force=True, immediate=True)
        self.refresh()

    def _title(self) -> None:
        held = f"Trace, held at {self._at + 1} of {len(self._shown)}; f follows"
        self.border_title = Text("Live trace" if self.is_following else held)

    def on_resize(self) -> None:
        self._settled()

    def go(self, index: int) -> None:
        if self.is_following:
            self.follow(False)
        super().go(index)
        self._title()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel moves the cursor, so that turning it up holds the trace as the keys do."""
        event.prevent_default()
        event.stop()
        self.action_step(-_WHEEL)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.prevent_default()
        event.stop()
        self.action_step(_WHEEL)

    def action_edge(self, is_last: bool) -> None:
        if is_last:
            self.follow(True)
        else:
            self.go(0)

    def action_follow(self) -> None:
        self.follow(True)

    def ident(self, item: Row) -> object:
        return item.seq

    def cells(self, item: Row, width: int) -> list[tuple[str, str]]:
        more, plain = self.glyphs.more, self.glyphs.plain
        wide = width >= 90
        agent, tool, word = (18, 20, 12) if wide else (11, 13, 9)
        tone = tone_of(item.effect)
        rest = max(0, width - agent - tool - word - 14)
        return [
            (f"{stamp(item.at)} ", "lines--dim"),
            (fitted(plain(item.agent), agent, more) + " ", ""),
            (fitted(plain(item.tool), tool, more) + " ", ""),
            (f"{self.glyphs.tone(tone)} {fitted(plain(item.effect), word, more)} ", f"trace--{tone}"),
            (fitted(plain(item.summary), rest, more), "lines--dim"),
        ]
