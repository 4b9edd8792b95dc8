"""The few signs that the screen draws itself, in Unicode and in ASCII; both always stand beside a word."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fumehood.model import Risk

__all__ = ["ASCII", "UNICODE", "WORDS", "Glyphs"]

WORDS = {Risk.LOW: "LOW", Risk.MEDIUM: "MED", Risk.HIGH: "HIGH"}

_NOT_ASCII = re.compile(r"[^\x20-\x7e]")
_SPELT = {"⟨": "<", "⟩": ">", "…": "...", "·": "-", "↪": ">"}


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

    def effect(self, effect: str) -> str:
        """A sign for an event's effect; what is neither a yes nor a no is a plain event."""
        signs = {"permit": self.yes, "approved": self.yes, "deny": self.no, "denied": self.no}
        return signs.get(effect, self.event)

    def plain(self, text: str) -> str:
        """*text* (inert already) as this terminal can show it: in ASCII all else is `<U+XXXX>`."""
        if not self.is_ascii or text.isascii():
            return text
        return _NOT_ASCII.sub(lambda m: _SPELT.get(m[0], f"<U+{ord(m[0]):04X}>"), text)


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
