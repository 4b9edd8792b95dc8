"""Makes any text safe to show: every face (screen, shell, log, demo, error message) uses `inert`.

A terminal obeys control characters, reorders bidirectional text and hides zero-width characters; a
person who approves must see them instead. What is not plainly visible becomes `⟨U+202E⟩`. Sources:
Unicode TR36 and TR39, CVE-2021-42574 ("Trojan Source"), ECMA-48.
"""

from __future__ import annotations

import json
import re
import unicodedata

from fumehood.canonical import parse

__all__ = ["clip", "inert", "pretty"]

# Anything outside printable ASCII is looked at one by one; this finds whether there is anything.
_SUSPECT = re.compile(r"[^\x20-\x7e]")

# Categories a terminal may act on or not show: controls, formats (bidi, zero width, tags), surrogates,
# private use, unassigned, line and paragraph separators.
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# Letters that are drawn as nothing, and marks that only join: invisible although their category is not.
_BLANK = frozenset("\u00ad\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U00016fe4\U0001d159")
_VARIATION = re.compile("[\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_MAX_MARKS = 4  # combining marks stacked on one letter before they are spelt out ("zalgo")


def inert(text: str, *, multiline: bool = False) -> str:
    """*text* with everything that is not plainly visible spelt out as `⟨U+XXXX⟩`.

    With *multiline*, line feeds stay line feeds (and tabs become four spaces).
    """
    if not _SUSPECT.search(text):
        return text
    marks = 0
    shown: list[str] = []
    for char in text:
        marks = marks + 1 if unicodedata.category(char)[0] == "M" else 0
        shown.append(_shown(char, multiline, marks))
    return "".join(shown)


def clip(text: str, limit: int) -> str:
    """*text* cut to *limit* characters; what was cut is counted, never silently gone."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… (+{len(text) - limit} characters)"


def pretty(document: bytes) -> str:
    """A canonical JSON document as indented, inert lines."""
    text = json.dumps(parse(document), indent=2, ensure_ascii=False)
    return inert(text, multiline=True)


def _shown(char: str, multiline: bool, marks: int) -> str:
    if " " <= char <= "~":
        return char
    if multiline and char in "\n\t":
        return "\n" if char == "\n" else "    "
    is_hidden = unicodedata.category(char) in _UNSHOWN or char in _BLANK or _VARIATION.match(char)
    is_odd_space = unicodedata.category(char) == "Zs"
    return f"⟨U+{ord(char):04X}⟩" if is_hidden or is_odd_space or marks > _MAX_MARKS else char
