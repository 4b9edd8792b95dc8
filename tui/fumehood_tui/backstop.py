"""The last look at every line before it goes to the terminal: whatever slipped through is taken out.

`display.inert` is the rule; this filter is for the mistake that forgets it. Textual hands it each
strip of each widget, its own included. Widths are kept: what takes cells becomes `�` (`?` in ASCII),
what takes none goes.
"""

from __future__ import annotations

import re
from unicodedata import combining

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from fumehood.display import inert

__all__ = ["Backstop", "harmless"]

_MAX_MARKS = 4  # as many as display.inert lets stand on one letter
_PLAIN = re.compile(r"[\x20-\x7e]*")


def harmless(text: str, *, is_ascii: bool = False) -> str:
    """*text* with the same number of cells and nothing that a terminal obeys, reorders or hides."""
    if _PLAIN.fullmatch(text):
        return text
    if not is_ascii and inert(text) == text:
        return text
    marks = 0
    shown: list[str] = []
    for char in text:
        marks = marks + 1 if combining(char) else 0
        shown.append("" if marks > _MAX_MARKS else _safe(char, is_ascii))
    return "".join(shown)


def _safe(char: str, is_ascii: bool) -> str:
    if inert(char) == char and (char.isascii() or not is_ascii):
        return char
    return ("?" if is_ascii else "\ufffd") * cell_len(char)


class Backstop(LineFilter):
    """Takes control and format characters and links out of any segment; *is_colorless*: colours too."""

    def __init__(self, *, is_ascii: bool = False, is_colorless: bool = False) -> None:
        super().__init__()
        self._is_ascii = is_ascii
        self._is_colorless = is_colorless

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Part of textual's LineFilter."""
        return [
            Segment(harmless(text, is_ascii=self._is_ascii), self._styled(style))
            for text, style, _ in segments
        ]

    def _styled(self, style: Style | None) -> Style | None:
        if style is None:
            return None
        unlinked = style.update_link(None) if style.link else style
        return _colorless(unlinked) if self._is_colorless else unlinked


def _colorless(style: Style) -> Style:
    return Style(
        bold=style.bold,
        dim=style.dim,
        italic=style.italic,
        underline=style.underline,
        reverse=style.reverse,
        meta=style.meta or None,
    )
