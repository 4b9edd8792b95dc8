"""One shell word as it is written, read as a POSIX shell reads it: quotes taken off, expansions named.

Knows nothing of commands. Sources: POSIX.1-2024, Shell Command Language 2.2 (quoting) and 2.6 (word
expansions); bash(1) for `$'…'`, braces and process substitution.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Unparseable", "Word", "word_of"]

_META = frozenset(b" \t\n|&;()<>")
_GLOB = frozenset(b"*?[")
_EXPANDS = re.compile(rb"\$[A-Za-z0-9_@*#?$!({\[\"'-]")
_ESCAPED_IN_QUOTES = frozenset(b'$`"\\\n')


class Unparseable(Exception):
    """The text has no one meaning that is known here; the message is fixed text."""


@dataclass(slots=True)
class Word:
    """`text` without quotes; `uses` names what is not known until it runs (none: it is known wholly)."""

    text: str
    uses: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Reader:
    raw: bytes
    start: int
    spans: Mapping[int, tuple[int, str]]  # where an expansion begins → where it ends, and its kind
    at: int = 0
    out: bytearray = field(default_factory=bytearray)
    uses: set[str] = field(default_factory=set)

    def bare(self) -> None:
        raw = self.raw
        while self.at < len(raw):
            byte = raw[self.at : self.at + 1]
            if self._expansion(is_quoted=False):
                continue
            if byte == b"\\":
                self._escape()
            elif byte == b"'":
                self._single()
            elif byte == b'"':
                self._double()
            elif byte[0] in _META:
                raise Unparseable("a word holds a character that ends words")
            else:
                self._plain(byte)

    def _plain(self, byte: bytes) -> None:
        at, raw = self.at, self.raw
        if byte == b"#" and at == 0:
            raise Unparseable("a word begins with #, as a comment does")
        if byte[0] in _GLOB:
            self.uses.add("glob")
        elif byte == b"~" and (at == 0 or raw[at - 1 : at] in (b":", b"=")):
            self.uses.add("tilde")
        elif byte in b"{}" and raw != b"{}":
            self.uses.add("brace")
        self._take(1)

    def _escape(self) -> None:
        following = self.raw[self.at + 1 : self.at + 2]
        if not following:
            raise Unparseable("it ends with a backslash")
        if following != b"\n":
            self.out += following
        self.at += 2

    def _single(self) -> None:
        end = self.raw.find(b"'", self.at + 1)
        if end < 0:
            raise Unparseable("a quote is not closed")
        self.out += self.raw[self.at + 1 : end]
        self.at = end + 1

    def _double(self) -> None:
        self.at += 1
        while self.at < len(self.raw):
            byte = self.raw[self.at : self.at + 1]
            if self._expansion(is_quoted=True):
                continue
            if byte == b'"':
                self.at += 1
                return
            if byte == b"\\" and self.raw[self.at + 1 : self.at + 2] in (b"$", b"`", b'"', b"\\", b"\n"):
                self._escape()
            else:
                self._take(1)
        raise Unparseable("a quote is not closed")

    def _expansion(self, *, is_quoted: bool) -> bool:
        """Step over an expansion that the grammar found here; one that it did not find is an error."""
        found = self.spans.get(self.start + self.at)
        if found is not None:
            end, kind = found
            self.uses.add(kind)
            self.at = end - self.start
            return True
        byte = self.raw[self.at : self.at + 1]
        if byte == b"`":
            raise Unparseable("an expansion is not read")
        if byte == b"$" and (match := _EXPANDS.match(self.raw, self.at)):
            if is_quoted and match[0] in (b'$"', b"$'"):
                return False
            raise Unparseable("an expansion is not read")
        return False

    def _take(self, count: int) -> None:
        self.out += self.raw[self.at : self.at + count]
        self.at += count


def word_of(raw: bytes, start: int, spans: Mapping[int, tuple[int, str]]) -> Word:
    """The word whose source is *raw*, which begins at byte *start* of the whole text.

    Raises:
        Unparseable: it is not one word, or holds an expansion that is not in *spans*.
    """
    reader = _Reader(raw, start, spans)
    reader.bare()
    return Word(reader.out.decode(), reader.uses)
