"""The line above the keys: what just happened, or, while `/` is open, the filter."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from fumehood_tui.glyphs import Glyphs
from fumehood_tui.query import FilterError, Query, parse

__all__ = ["Bar"]

_EXAMPLE = "risk>=med tool:x agent:y text"


class Bar(Horizontal):
    """A status text, a filter input. Posts `Bar.Filtered` on Enter: half a word would hide the wrong rows."""

    DEFAULT_CSS = """
    Bar { height: 1; background: $panel; padding: 0 1; }
    Bar > #said { width: 1fr; height: 1; color: $text; text-wrap: nowrap; text-overflow: ellipsis; }
    Bar > #said.-alarm { color: $warning; text-style: bold; }
    Bar > Input { width: 60%; display: none; }
    Bar > #slash { width: 8; display: none; color: $accent; }
    Bar.-typing > Input { display: block; }
    Bar.-typing > #slash { display: block; }
    """

    @dataclass
    class Filtered(Message):
        """The filter is *query* now."""

        query: Query

    def __init__(self, *, id: str, glyphs: Glyphs) -> None:
        super().__init__(id=id)
        self._glyphs = glyphs
        self._field = Input(placeholder=_EXAMPLE, compact=True, max_length=200, id="filter")
        self._said = Static(Text(""), id="said", markup=False)
        self.said = ""

    def compose(self) -> ComposeResult:
        yield Static(Text("filter:"), id="slash", markup=False)
        yield self._field
        yield self._said

    def say(self, words: str, *, is_alarm: bool = False) -> None:
        """Show *words* (inert) until something else is said."""
        self.said = words
        self._said.update(Text(self._glyphs.plain(words)))
        self._said.set_class(is_alarm, "-alarm")

    def open(self, text: str) -> None:
        """Let the person type a filter, beginning with *text*."""
        self.add_class("-typing")
        self._field.value = text
        self._field.focus()

    def close(self) -> None:
        self.remove_class("-typing")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.has_class("-typing"):
            self._parsed(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if (query := self._parsed(event.value)) is not None:
            self.post_message(self.Filtered(query))

    def _parsed(self, text: str) -> Query | None:
        try:
            query = parse(text)
        except FilterError as error:
            self.say(str(error), is_alarm=True)
            return None
        self.say("")
        return query
