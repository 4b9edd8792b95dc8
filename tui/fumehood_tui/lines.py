"""A virtualised list with a cursor: only the rows on screen are ever drawn, no widget or message per row.

The cursor stays on its row, not on its place: rows that come or go elsewhere never move it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fumehood_tui.glyphs import UNICODE, Glyphs
from fumehood_tui.words import fitted

__all__ = ["MOVES", "Lines"]

Item = TypeVar("Item")

MOVES: list[BindingType] = [
    Binding("down,j", "step(1)", "down", show=False),
    Binding("up,k", "step(-1)", "up", show=False),
    Binding("pagedown,ctrl+f", "page(1)", "page down", show=False),
    Binding("pageup,ctrl+b", "page(-1)", "page up", show=False),
    Binding("home,g", "edge(False)", "first", show=False),
    Binding("end,G", "edge(True)", "last", show=False),
]


class Lines(ScrollView, Generic[Item], can_focus=True):
    """Rows of one line each. Subclasses say what a row is called and how it looks."""

    BINDINGS: ClassVar[list[BindingType]] = MOVES
    COMPONENT_CLASSES: ClassVar[set[str]] = {"lines--cursor", "lines--dim"}
    DEFAULT_CSS = """
    Lines { overflow-x: hidden; scrollbar-size-vertical: 0; }
    Lines > .lines--cursor { background: $surface; }
    Lines:focus > .lines--cursor { background: $primary 40%; text-style: bold; }
    Lines > .lines--dim { color: $secondary; }
    """

    def __init__(self, *, id: str, glyphs: Glyphs = UNICODE) -> None:
        super().__init__(id=id)
        self.glyphs = glyphs
        self._rows: Sequence[Item] = ()
        self._at = -1

    counts_rows = True  # in the lower border

    # what a subclass says

    def ident(self, item: Item) -> object:
        """What makes *item* the same row later."""
        raise NotImplementedError

    def cells(self, item: Item, width: int) -> list[tuple[str, str]]:
        """*item* as (text, name of a component class or "") that together fill *width* cells."""
        raise NotImplementedError

    def empty(self) -> Sequence[str]:
        """Lines to show where there are no rows."""
        return ()

    def moved(self, *, by_user: bool) -> None:
        """The cursor is on another row now."""

    # rows and cursor

    @property
    def room(self) -> int:
        """Cells of a line."""
        return self.size.width

    @property
    def current(self) -> Item | None:
        """The row under the cursor."""
        return self._rows[self._at] if 0 <= self._at < len(self._rows) else None

    def put(self, rows: Sequence[Item]) -> None:
        """Show *rows*; the cursor stays on its row, and goes to the one that took its place if it went."""
        before = self.current
        self._rows = rows
        self._at = self._place_of(before)
        self.virtual_size = Size(self.room, max(1, len(rows)))
        self._stay(before)
        self._count()
        self.refresh()

    def go(self, index: int) -> None:
        """Put the cursor on row *index*, as the person asked."""
        if not self._rows:
            return
        before = self.current
        self._at = min(max(0, index), len(self._rows) - 1)
        self._reveal()
        self._count()
        self.refresh()
        if before is None or self.ident(before) != self.ident(self._rows[self._at]):
            self.moved(by_user=True)

    def _here(self) -> int:
        return self._at if self._at >= 0 else len(self._rows) - 1

    def _place_of(self, before: Item | None) -> int:
        if not self._rows:
            return -1
        if before is None:
            return 0
        ident = self.ident(before)
        found = next((i for i, item in enumerate(self._rows) if self.ident(item) == ident), None)
        return min(self._at, len(self._rows) - 1) if found is None else found

    def _stay(self, before: Item | None) -> None:
        now = self.current
        is_same = before is not None and now is not None and self.ident(before) == self.ident(now)
        if now is not before:
            self._reveal()
        if not is_same and (before is not None or now is not None):
            self.moved(by_user=False)

    def _count(self) -> None:
        """Say where the cursor is if not all rows are on the screen: there is no scrollbar."""
        if self.counts_rows:
            is_long = len(self._rows) > self.size.height
            self.border_subtitle = Text(f"{self._at + 1}/{len(self._rows)}") if is_long else None

    def _reveal(self) -> None:
        height = max(1, self.size.height)
        top = self.scroll_offset.y
        if self._at < top:
            self.scroll_to(y=self._at, animate=False, immediate=True)
        elif self._at >= top + height:
            self.scroll_to(y=self._at - height + 1, animate=False, immediate=True)

    # keys and mouse

    def action_step(self, by: int) -> None:
        self.go(self._here() + by)

    def action_page(self, by: int) -> None:
        self.go(self._here() + by * max(1, self.size.height - 1))

    def action_edge(self, is_last: bool) -> None:
        self.go(len(self._rows) - 1 if is_last else 0)

    def on_click(self, event: events.Click) -> None:
        """Select the row that was clicked."""
        offset = event.get_content_offset(self)
        if offset is not None and (row := offset.y + self.scroll_offset.y) < len(self._rows):
            self.go(row)

    # drawing

    def render_line(self, y: int) -> Strip:
        """Part of textual's line API: row *y* of the view."""
        width = self.room
        row = y + self.scroll_offset.y
        if not self._rows:
            return self._note(y, width)
        if row >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        is_cursor = row == self._at
        base = self.get_component_rich_style("lines--cursor") if is_cursor else self.rich_style
        mark = self.glyphs.cursor if is_cursor else " "
        pieces = [(mark, ""), *self.cells(self._rows[row], width - 1)]
        segments = [Segment(text, self._styled(base, part, is_cursor)) for text, part in pieces]
        return Strip(segments).adjust_cell_length(width, base)

    def _styled(self, base: Style, part: str, is_cursor: bool) -> Style:
        if not part:
            return base
        style = self.get_component_rich_style(part, partial=True)
        return base + (Style(color=style.color, bold=style.bold) if is_cursor else style)

    def _note(self, y: int, width: int) -> Strip:
        lines = self.empty()
        text = self.glyphs.plain(lines[y]) if y < len(lines) else ""
        style = self.rich_style + self.get_component_rich_style("lines--dim", partial=True)
        return Strip([Segment(fitted(f" {text}", width, self.glyphs.more), style)])
