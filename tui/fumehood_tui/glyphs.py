"""The few signs that the screen draws itself, in Unicode and in ASCII; both always stand beside a word."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from unicodedata import combining

from rich.cells import get_character_cell_size

from fumehood.model import Risk

__all__ = ["ASCII", "UNICODE", "WORDS", "Glyphs", "Tone", "tone_of"]

WORDS = {Risk.LOW: "LOW", Risk.MEDIUM: "MED", Risk.HIGH: "HIGH"}

_NOT_ASCII = re.compile(r"[^\x20-\x7e]")
_SPELT = {"⟨": "<", "⟩": ">", "…": "...", "·": "-", "↪": ">"}


def _has_width(char: str) -> bool:
    return char.isascii() or not (
        (get_character_cell_size(char) == 0 and not combining(char)) or "\U0001f1e6" <= char <= "\U0001f1ff"
    )


class Tone(StrEnum):
    """What a line of the trace means to a person who skims it."""

    YES = "yes"
    NO = "no"
    ASK = "ask"
    STOP = "stop"
    PLAIN = "plain"


_TONES = {
    **dict.fromkeys(("permit", "approved"), Tone.YES),
    **dict.fromkeys(("deny", "indeterminate", "denied", "expired", "cancelled", "superseded"), Tone.NO),
    **dict.fromkeys(("ask", "pending"), Tone.ASK),
    "stop": Tone.STOP,
}


def tone_of(word: str) -> Tone:
    """The tone of a trace line's *word*."""
    return _TONES.get(word, Tone.PLAIN)


@dataclass(frozen=True, slots=True)
class Glyphs:
    """One set of signs, each one cell wide."""

    is_ascii: bool
    pending: str
    low: str
    medium: str
    high: str
    yes: str
    no: str
    event: str
    stop: str
    cursor: str
    more: str
    dot: str

    def risk(self, risk: Risk) -> str:
        return {Risk.LOW: self.low, Risk.MEDIUM: self.medium, Risk.HIGH: self.high}[risk]

    def tone(self, tone: Tone) -> str:
        """A sign for what a line of the trace says."""
        return {Tone.YES: self.yes, Tone.NO: self.no, Tone.ASK: self.pending, Tone.STOP: self.stop}.get(
            tone, self.event
        )

    def plain(self, text: str) -> str:
        """*text* (inert already) as this terminal can show it: in ASCII all else is `<U+XXXX>`.

        Terminals do not agree on how wide emoji modifiers, flags and joining letters are; a row that is
        drawn wider than it was counted breaks the screen. They are spelt out.
        """
        if text.isascii():
            return text
        if self.is_ascii:
            return _NOT_ASCII.sub(lambda m: _SPELT.get(m[0], f"<U+{ord(m[0]):04X}>"), text)
        return "".join(char if _has_width(char) else f"⟨U+{ord(char):04X}⟩" for char in text)


UNICODE = Glyphs(
    is_ascii=False,
    pending="◆",
    low="○",
    medium="●",
    high="▲",
    yes="✓",
    no="✗",
    event="·",
    stop="■",
    cursor="▸",
    more="…",
    dot="·",
)
ASCII = Glyphs(
    is_ascii=True,
    pending="*",
    low="-",
    medium="+",
    high="!",
    yes="+",
    no="x",
    event=".",
    stop="#",
    cursor=">",
    more="~",
    dot="-",
)
