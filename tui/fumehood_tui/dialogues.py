"""The dialogues: deny with a reason, approve a high risk by typing its id, stop a run, help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Static

from fumehood.display import inert
from fumehood.ledger.protocol import StopScope
from fumehood_tui.desk import SETTLE_S
from fumehood_tui.dialogue import Choice, Dialogue, RequestDialogue
from fumehood_tui.glyphs import WORDS, Glyphs
from fumehood_tui.lines import Lines
from fumehood_tui.view import Request, name
from fumehood_tui.words import fitted

__all__ = ["ConfirmDialogue", "DenyDialogue", "StopChoice", "StopDialogue"]

_NOTE = 500  # characters of a reason


class DenyDialogue(RequestDialogue[str | None]):
    """Answers the reason (may be empty), or None if the person went back."""

    def title_text(self) -> str:
        return f"Deny {self.request.label}"

    def inside(self) -> ComposeResult:
        yield Static(self.about(), markup=False)
        yield Static(self.text("Reason, which the agent will be told (may be empty):", "dim"), markup=False)
        yield Input(max_length=_NOTE, compact=True, id="reason")
        with Horizontal(id="choices"):
            yield Choice("Enter", "deny", "deny")
            yield Choice("Esc", "back", "leave")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_input_submitted(self) -> None:
        self.action_deny()

    def action_deny(self) -> None:
        if not self.is_over:
            self.dismiss(self.query_one(Input).value.strip())


class ConfirmDialogue(RequestDialogue[bool]):
    """Answers True once the whole id was typed and `a` pressed after it. A paste types nothing."""

    def __init__(self, request: Request, glyphs: Glyphs, /, *, clock: Callable[[], float]) -> None:
        super().__init__(request, glyphs)
        self._clock = clock
        self._wanted = request.key.id  # as in the shell: all of it
        self._typed = ""
        self._typed_at = float("inf")

    @property
    def is_typed(self) -> bool:
        return self._typed == self._wanted

    def title_text(self) -> str:
        return f"Approve {self.request.label} ({WORDS[self.request.risk]} risk)"

    def inside(self) -> ComposeResult:
        yield Static(self.about(), markup=False)
        yield Static(self.text(f"Type its whole id, {name(self._wanted)}, then press a."), markup=False)
        yield Static(self._prompt(), id="typed", markup=False)
        with Horizontal(id="choices"):
            yield Choice("a", "approve (after the id)", "approve")
            yield Choice("Esc", "back", "leave")

    def on_key(self, event: events.Key) -> None:
        """Keys type the id; after it, `a` approves."""
        if event.key == "escape":
            return
        event.stop()
        event.prevent_default()
        if event.key == "backspace":
            self._type(self._typed[:-1])
        elif self.is_typed:
            if event.key == "a":
                self.action_approve()
        elif event.character and event.is_printable:
            self._type(self._typed + event.character)

    def on_paste(self, event: events.Paste) -> None:
        event.stop()

    def action_approve(self) -> None:
        is_settled = self._clock() - self._typed_at >= SETTLE_S
        if self.is_typed and is_settled and not self.is_over:
            self.dismiss(True)

    def _type(self, text: str) -> None:
        if not self.is_over:
            self._typed = text[: len(self._wanted) + 8]
            self._typed_at = self._clock() if self.is_typed else float("inf")
            self.query_one("#typed", Static).update(self._prompt())

    def _prompt(self) -> Text:
        if self.is_typed:
            return self.text(f"> {self._typed}   now press a to approve", "bold")
        wrong = "" if self._wanted.startswith(self._typed) else "   not this id: Backspace"
        return self.text(f"> {inert(self._typed)}_{wrong}")


@dataclass(frozen=True, slots=True)
class StopChoice:
    """One thing that can be stopped, or (`is_lift`) let run again. `raw_value` is for the ledger only."""

    scope: StopScope
    raw_value: str
    label: str
    effect: str
    is_lift: bool = False


class Choices(Lines[StopChoice]):
    """The list in the stop dialogue."""

    DEFAULT_CSS = "Choices { height: auto; min-height: 1; max-height: 10; margin-top: 1; }"

    def ident(self, item: StopChoice) -> object:
        return (item.scope, item.raw_value, item.is_lift)

    def cells(self, item: StopChoice, width: int) -> list[tuple[str, str]]:
        return [(fitted(self.glyphs.plain(item.label), width, self.glyphs.more), "")]


class StopDialogue(Dialogue[StopChoice | None]):
    """Answers what to stop (or to lift) after it was chosen and confirmed with y."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "choose", priority=True),
        Binding("y", "confirm", "yes"),
        Binding("n", "back", "no"),
        Binding("escape", "back", "back"),
    ]
    TITLE_TEXT = "Stop"

    def __init__(self, choices: list[StopChoice], glyphs: Glyphs) -> None:
        super().__init__(glyphs)
        self._choices = choices
        self._chosen: StopChoice | None = None

    def inside(self) -> ComposeResult:
        yield Static(self.text("What shall be stopped? j/k, then Enter."), id="question", markup=False)
        yield Choices(id="stops", glyphs=self.glyphs)
        with Horizontal(id="choices"):
            yield Choice("Enter", "choose", "choose")
            yield Choice("y", "yes, do it", "confirm")
            yield Choice("Esc", "back", "back")

    def on_mount(self) -> None:
        choices = self.query_one(Choices)
        choices.styles.height = min(10, len(self._choices))
        choices.put(self._choices)
        choices.focus()

    def action_choose(self) -> None:
        self._chosen = self.query_one(Choices).current
        if self._chosen is not None:
            self._ask(f"{self._chosen.label}? {self._chosen.effect} Press y to do it, n to go back.")

    def action_confirm(self) -> None:
        if self._chosen is not None:
            self.dismiss(self._chosen)

    def action_back(self) -> None:
        if self._chosen is None:
            self.dismiss(None)
            return
        self._chosen = None
        self._ask("What shall be stopped? j/k, then Enter.")

    def _ask(self, words: str) -> None:
        self.query_one(Choices).disabled = self._chosen is not None
        self.query_one("#question", Static).update(self.text(words, "bold" if self._chosen else ""))
        if self._chosen is None:
            self.query_one(Choices).focus()
