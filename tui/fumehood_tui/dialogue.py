"""What all dialogues share: a box, a title, parts that can be clicked, and a way to say that it is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from fumehood_tui.glyphs import Glyphs
from fumehood_tui.view import Request
from fumehood_tui.words import fitted

__all__ = ["Choice", "Dialogue", "RequestDialogue"]

_ABOUT = 180  # cells
Answer = TypeVar("Answer")


class Choice(Static):
    """A key and what it does; a click does the same."""

    DEFAULT_CSS = """
    Choice { width: auto; height: 1; padding: 0 1; margin: 0 1 0 0; background: $panel; }
    Choice:hover { background: $primary 40%; }
    """

    @dataclass
    class Picked(Message):
        """Somebody clicked."""

        action: str

    def __init__(self, key: str, label: str, action: str) -> None:
        super().__init__(Text.assemble((key, "bold"), " ", label), markup=False)
        self._action = action

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.post_message(self.Picked(self._action))


class Dialogue(ModalScreen[Answer]):
    """A box over the screen. Escape leaves it without an answer; Enter approves nothing in any of them."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "back")]
    DEFAULT_CSS = """
    Dialogue { align: center middle; background: $background 60%; }
    Dialogue > #box {
        width: 72; max-width: 96%; height: auto; max-height: 96%;
        border: round $primary; padding: 0 1; background: $surface;
    }
    Dialogue .-ascii-off { display: block; }
    Dialogue #box Static { width: 100%; height: auto; }
    Dialogue #box Choice { width: auto; height: 1; }
    Dialogue #choices { height: 1; margin-top: 1; layout: horizontal; }
    Dialogue #over { color: $warning; text-style: bold; display: none; }
    Dialogue.-over #over { display: block; margin-top: 1; }
    """
    TITLE_TEXT = ""

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self.glyphs = glyphs

    def title_text(self) -> str:
        """What stands in the box's border; inert."""
        return self.TITLE_TEXT

    def inside(self) -> ComposeResult:
        """The widgets in the box, for subclasses."""
        yield from ()

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = self.text(self.title_text())
            yield from self.inside()
            yield Static(Text(""), id="over", markup=False)

    def text(self, words: str, style: str = "") -> Text:
        """*words* (inert) as this terminal can show them."""
        return Text(self.glyphs.plain(words), style=style)

    def action_leave(self) -> None:
        self.dismiss(None)

    async def on_choice_picked(self, message: Choice.Picked) -> None:
        message.stop()
        await self.run_action(message.action)


class RequestDialogue(Dialogue[Answer]):
    """A dialogue about one request. It can be over before the person is done."""

    def __init__(self, request: Request, glyphs: Glyphs) -> None:
        super().__init__(glyphs)
        self.request = request
        self.is_over = False

    def about(self) -> Text:
        """Who asks and why, in three lines at most: a long text must not push the rest out of the box."""
        words = self.glyphs.plain(f"{self.request.agent}: {self.request.why}")
        return Text(fitted(words, min(len(words), _ABOUT), self.glyphs.more))

    def over(self, what: str) -> None:
        """The request no longer waits: say what became of it, and decide nothing any more."""
        self.is_over = True
        self.add_class("-over")
        note = self.text(f"{self.request.label} {what}. Nothing is left to decide; Esc goes back.")
        self.query_one("#over", Static).update(note)
        for widget in self.query("#choices, Input").results(Widget):
            widget.disabled = True
