"""A document on the screen: the base of the detail pane and the full view.

Laying out a megabyte takes longer than a frame, so a large document is laid out in a worker thread;
until it is done nothing of it counts as seen.
"""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from textual import work
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.worker import get_current_worker

from fumehood_tui.document import LABEL, NARROW, Document, Line, Role, laid
from fumehood_tui.glyphs import UNICODE, Glyphs
from fumehood_tui.words import fitted

__all__ = ["Paper"]

_QUICK = 20_000  # characters that are laid out at once
_PARTS = {Role.PLAIN: "paper--plain", Role.VALUE: "paper--value", Role.WARNING: "paper--warning"}


class Paper(ScrollView, can_focus=True):
    """Shows a `Document` at its own width. Subclasses say which of its lines are on screen."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"paper--label", "paper--dim", *_PARTS.values()}
    DEFAULT_CSS = """
    Paper { overflow-x: hidden; scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
    Paper > .paper--label { color: $accent; }
    Paper > .paper--value { color: $foreground; }
    Paper > .paper--plain { color: $foreground; }
    Paper > .paper--warning { color: $warning; text-style: bold; }
    Paper > .paper--dim { color: $secondary; }
    """

    def __init__(self, *, id: str, glyphs: Glyphs = UNICODE, is_full: bool = False) -> None:
        super().__init__(id=id)
        self.glyphs = glyphs
        self._is_full = is_full
        self._document: Document | None = None
        self.lines: list[Line] = []
        self.is_laid = False

    @property
    def room(self) -> int:
        """Cells of a line that are really seen: without the scrollbar, which `size` counts in."""
        return self.scrollable_content_region.width

    @property
    def is_legible(self) -> bool:
        """All lines are laid out and none of them is cut at the edge."""
        return self.is_laid and self.room >= NARROW

    def arranged(self) -> None:
        """The lines stand: for subclasses."""

    def put(self, document: Document | None) -> None:
        """Show *document*, or nothing."""
        self._document = document
        self.lines, self.is_laid = [], False
        self.scroll_to(y=0, animate=False, immediate=True)
        self._arrange()

    def on_resize(self) -> None:
        self._arrange()

    def _arrange(self) -> None:
        width = self.room
        if self._document is None or width <= 0:
            self.refresh()
        elif self._document.size <= _QUICK:
            self._stand(
                self._document, width, laid(self._document, width, self.glyphs, is_full=self._is_full)
            )
        else:
            self._arrange_later(self._document, width)

    @work(thread=True, exclusive=True, group="layout")
    def _arrange_later(self, document: Document, width: int) -> None:
        worker = get_current_worker()
        lines = laid(document, width, self.glyphs, is_full=self._is_full)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._stand, document, width, lines)

    def _stand(self, document: Document, width: int, lines: list[Line]) -> None:
        if document is not self._document or width != self.room:
            return  # another document or width by now; its own layout is under way
        self.lines, self.is_laid = lines, True
        self.virtual_size = Size(width, max(1, len(lines)))
        self.arranged()
        self.refresh()

    def strip(self, line: Line, width: int) -> Strip:
        """*line* in exactly *width* cells."""
        base = self.rich_style
        style = base + self.get_component_rich_style(_PARTS[line.role], partial=True)
        label = base + self.get_component_rich_style("paper--label", partial=True)
        indent = 0 if line.role is Role.VALUE else LABEL
        head = [Segment(fitted(line.label, indent), label)] if indent else []
        return Strip([*head, Segment(fitted(line.text, width - indent, self.glyphs.more), style)])

    def remark(self, text: str, width: int, part: str = "paper--dim") -> Strip:
        """A line of the screen's own."""
        style = self.rich_style + self.get_component_rich_style(part, partial=True)
        return Strip([Segment(fitted(self.glyphs.plain(text), width, self.glyphs.more), style)])
