"""The list of what waits for a person: soonest to expire first, the cursor bound to the request's id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.message import Message

from fumehood.display import inert
from fumehood.model import Risk
from fumehood_tui.glyphs import UNICODE, WORDS, Glyphs
from fumehood_tui.lines import Lines
from fumehood_tui.view import Request, Source
from fumehood_tui.words import age, fitted, time_left

__all__ = ["Pending"]

_PARTS = {Risk.LOW: "pending--low", Risk.MEDIUM: "pending--medium", Risk.HIGH: "pending--high"}


class Pending(Lines[Request]):
    """What waits. Posts `Pending.Selected` when the cursor is on another request."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {*_PARTS.values(), "pending--over"}
    DEFAULT_CSS = """
    Pending > .pending--high { color: $error; text-style: bold; }
    Pending > .pending--medium { color: $warning; }
    Pending > .pending--low { color: $success; }
    Pending > .pending--over { color: $secondary; text-style: italic; }
    """

    @dataclass
    class Selected(Message):
        """Another request is under the cursor. `by_user`: the person moved there."""

        request: Request | None
        by_user: bool

    def __init__(self, *, id: str, glyphs: Glyphs = UNICODE) -> None:
        super().__init__(id=id, glyphs=glyphs)
        self._now = 0.0
        self._source: Source | None = None
        self._is_filtered = False
        self.border_title = "Pending"

    def show(self, rows: Sequence[Request], /, *, total: int, filter_text: str) -> None:
        """Show *rows*, which are those of *total* that *filter_text* lets pass."""
        self._is_filtered = len(rows) < total
        hidden = f" {len(rows)} of {total}" if self._is_filtered else ""
        cut = fitted(filter_text, min(24, len(filter_text)), self.glyphs.more)
        named = f"  f: {cut}" if filter_text else ""
        self.border_title = Text(self.glyphs.plain(inert(f"Pending{hidden}{named}")))
        before = self.current
        self.put(rows)
        now = self.current
        if before is not None and now is not None and before.key != now.key and before.key.id == now.key.id:
            self.moved(by_user=False)  # the same id, another revision: what was shown is not what waits

    def tick(self, now: float, source: Source | None) -> None:
        """It is *now* (Unix seconds); *source* is the ledger that is being read."""
        self._now, self._source = now, source
        self.refresh()

    def ident(self, item: Request) -> object:
        return item.key.id

    def moved(self, *, by_user: bool) -> None:
        self.post_message(self.Selected(self.current, by_user))

    def cells(self, item: Request, width: int) -> list[tuple[str, str]]:
        more = self.glyphs.more
        left = time_left(item.expires_at, self._now)
        short = max(len(item.short), 4)
        rest = max(0, width - 12 - short - 2)
        tool = max(4, rest * 11 // 20)
        return [
            (f"{self.glyphs.risk(item.risk)}{WORDS[item.risk]:<5}", _PARTS[item.risk]),
            (f"{left:>5} ", "pending--over" if left == "over" else ""),
            (f"{item.short:<{short}} ", "lines--dim"),
            (fitted(self.glyphs.plain(item.tool), tool, more) + " ", ""),
            (fitted(self.glyphs.plain(item.agent), rest - tool, more), "lines--dim"),
        ]

    def empty(self) -> Sequence[str]:
        source = self._source
        if source is None:
            return ["reading the ledger…"]
        if not source.exists:
            where = ["", "Waiting for the ledger:", *_folded(source.path, self.size.width - 2)]
            return [*where, "", "The first guarded call makes it.", "Another one? --ledger PATH"]
        if self._is_filtered:
            return ["", "Nothing passes the filter.", "/ changes it, Esc clears it."]
        last = "Nobody has written to it yet."
        if source.last_at is not None:
            last = f"Last: {source.last_writer}, {age(self._now - source.last_at)} ago"
        told = [last, *([f"({source.last_program})"] if source.last_program else [])]
        return [
            "",
            "Nothing waits for you.",
            "",
            "Ledger:",
            *_folded(source.path, self.size.width - 2),
            *told,
        ]


def _folded(path: str, width: int) -> list[str]:
    width = max(8, width)
    return [path[i : i + width] for i in range(0, len(path), width)]
