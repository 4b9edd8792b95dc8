"""The first line: how much waits, how urgent it is, how much happens, and whether this is live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from textual.content import Content
from textual.widget import Widget

from fumehood.model import Risk
from fumehood_tui.glyphs import Glyphs
from fumehood_tui.view import Request, Snapshot
from fumehood_tui.words import age, rate

__all__ = ["Header", "Pulse"]


class Pulse(Enum):
    """Whether what is on the screen is what is in the ledger."""

    LIVE = "LIVE"
    STALE = "STALE"
    WAITING = "WAITING"


_STYLES = {Pulse.LIVE: "bold $success", Pulse.STALE: "bold reverse $error", Pulse.WAITING: "bold $warning"}


@dataclass(frozen=True, slots=True)
class Summary:
    """What the header says."""

    requests: Sequence[Request] = ()
    has_more: bool = False
    halts: int = 0
    per_s: float = 0.0
    observed: int = 0


class Header(Widget):
    """One line, drawn from values."""

    DEFAULT_CSS = """
    Header { height: 1; background: $panel; color: $text; padding: 0 1; }
    """

    def __init__(self, *, id: str, glyphs: Glyphs) -> None:
        super().__init__(id=id)
        self._glyphs = glyphs
        self._summary = Summary()
        self._pulse = Pulse.WAITING
        self._now = 0.0

    def show(self, snapshot: Snapshot) -> None:
        self._summary = Summary(
            snapshot.requests, snapshot.has_more, len(snapshot.halts), snapshot.per_s, snapshot.observed
        )
        self.refresh()

    def tick(self, now: float, pulse: Pulse) -> None:
        """It is *now* (Unix seconds)."""
        self._now, self._pulse = now, pulse
        self.refresh()

    @property
    def words(self) -> str:
        """The whole line as plain text."""
        return self.render().plain

    def render(self) -> Content:
        """Part of textual's Widget."""
        parts = [(part + "  ", style) for part, style in self._parts()]
        return Content.assemble(("fumehood  ", "bold"), *parts, (self._pulse.value, _STYLES[self._pulse]))

    def _parts(self) -> list[tuple[str, str]]:
        glyphs, summary = self._glyphs, self._summary
        waiting = summary.requests
        oldest = f" (oldest {age(self._now - min(r.created_at for r in waiting))})" if waiting else ""
        high = sum(r.risk is Risk.HIGH for r in waiting)
        more = "+" if summary.has_more else ""
        agents = "1 agent" if summary.observed == 1 else f"{summary.observed} agents"
        parts = [(f"NOT ENFORCED: {agents}", "bold reverse $warning")] if summary.observed else []
        parts += [
            (f"{glyphs.pending} {len(waiting)}{more} pending{oldest}", "bold" if waiting else "$secondary")
        ]
        parts += [(f"{glyphs.high} {high} high", "bold $error")] if high else []
        parts += [(f"{glyphs.stop} {summary.halts} stopped", "bold $error")] if summary.halts else []
        return [*parts, (rate(summary.per_s), "$secondary")]
