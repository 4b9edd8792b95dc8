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


class Bar(Horizontal):
    """A status text, a filter input. Posts `Bar.Filtered` as the filter is typed."""

    DEFAULT_CSS = """
    Bar { height: 1; background: $panel; padding: 0 1; }
    Bar > #said { width: 1fr; height: 1; color: $text; }
    Bar > #said.-alarm { color: $warning; text-style: bold; }
    Bar > Input { width: 60%; display: none; }
    Bar > #slash { width: 8; display: none; color: $accent; }
    Bar.-typing > Input { display: block; }
    Bar.-typing > #slash { display: block; }
    """

    @dataclass
    class Filtered(Message):
        """The filter is *query* now; `is_done`: the person has left the input."""

        query: Query
        is_done: bool

    def __init__(self, *, id: str, glyphs: Glyphs) -> None:
        super().__init__(id=id)
        self._glyphs = glyphs
        self.said = ""

    def compose(self) -> ComposeResult:
        yield Static(Text("filter:"), id="slash", markup=False)
        yield Input(placeholder="risk>=med tool:x agent:y text", compact=True, max_length=200, id="filter")
        yield Static(Text(""), id="said", markup=False)

    def say(self, words: str, *, is_alarm: bool = False) -> None:
        """Show *words* (inert) until something else is said."""
        self.said = words
        said = self.query_one("#said", Static)
        said.update(Text(self._glyphs.plain(words), no_wrap=True, overflow="ellipsis"))
        said.set_class(is_alarm, "-alarm")

    def open(self, text: str) -> None:
        """Let the person type a filter, beginning with *text*."""
        self.add_class("-typing")
        field = self.query_one(Input)
        field.value = text
        field.focus()

    def close(self) -> None:
        self.remove_class("-typing")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.has_class("-typing"):
            self._filter(event.value, is_done=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._filter(event.value, is_done=True)

    def _filter(self, text: str, *, is_done: bool) -> None:
        try:
            query = parse(text)
        except FilterError as error:
            self.say(str(error), is_alarm=True)
            return
        self.say("")
        self.post_message(self.Filtered(query, is_done))
