"""A path as it is written, and the words of one simple command: one meaning, or none. Pure.

Whatever two readers could understand differently is refused, never guessed at. Symbolic links are not
followed. Sources: POSIX.1-2024 3.271 (pathnames), and its Shell Command Language 2.2 (quoting).
"""

from __future__ import annotations

import posixpath
import re
from typing import cast

from fumehood.canonical import JSON

__all__ = ["path_of", "words_of"]

_MAX_PATH = 4096
_MAX_COMMAND = 8192
# One piece of a word: bare characters that mean nothing to a shell, or a quotation without expansions.
_PIECE = re.compile(r"""(?P<bare>[\w@%+:,./=-]+)|'(?P<single>[^'\x00]*)'|"(?P<double>[^"$`\\!\x00]*)\"""")
_BLANKS = re.compile(r"[ \t]+")
# What a shell does not take for the program's name, and a reader that only splits words does.
_NO_PROGRAM = re.compile(
    r"[ \t]*(?:[A-Za-z_][A-Za-z0-9_]*\+?="
    r"|(?:if|then|elif|else|fi|for|in|do|done|case|esac|while|until|select|function|time|coproc)(?:[ \t]|\Z))"
)


def path_of(text: str, *, cwd: str | None = None) -> str | None:
    """*text* as an absolute path without `.`, `..`, doubled or trailing slashes."""
    if not text or len(text) > _MAX_PATH or "\0" in text or text.startswith("~"):
        return None
    if not text.startswith("/"):
        if cwd is None or not cwd.startswith("/") or "://" in text:
            return None
        text = f"{cwd}/{text}"
    return "/" + posixpath.normpath(text).lstrip("/")


def words_of(text: str) -> JSON:
    """The words of *text* if it is one simple command: no operator, expansion, pattern or open quote.

    Absent too where a shell sees an assignment or a reserved word first (`X=1 rm`, `time rm`).
    """
    if not text or len(text) > _MAX_COMMAND or _NO_PROGRAM.match(text):
        return None
    words: list[JSON] = []
    at = _skip(text, 0)
    while at < len(text):
        word, end = _word(text, at)
        if end == at:
            return None
        words.append(word)
        at = _skip(text, end)
        if at == end and at < len(text):
            return None
    return words or None


def _skip(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    return blanks.end() if blanks else at


def _word(text: str, at: int) -> tuple[str, int]:
    """The word at *at* and where it ends; it ends where it began if there is none."""
    parts: list[str] = []
    while piece := _PIECE.match(text, at):
        parts.append(cast("str", piece[cast("str", piece.lastgroup)]))
        at = piece.end()
    return "".join(parts), at
