"""What the embedded engine's parser cannot bear, found by counting before anybody parses it.

Values that are written out and nested take twice as long for each level (is it a list, or a comprehension?):
twenty brackets keep it busy for a minute. And each operator of one expression is a level of its syntax tree:
some thousands of them end the whole process.
"""

from __future__ import annotations

import re

__all__ = ["too_deep"]

_MOST_ATTEMPTS = 1 << 19  # in one file; each takes some microseconds, in the gate and in each worker
_MOST_OPERATORS = 200  # one after the other
_OPERATORS = frozenset({"+", "-", "*", "/", "%", "|", "&", "==", "!=", "<", "<=", ">", ">=", "in"})
_BRACKET = re.compile(r'"(?:\\.|[^"\\\n])*"?|`[^`]*`?|#[^\n]*|[\[{]|[\]}]')
_TOKEN = re.compile(
    r'"(?:\\.|[^"\\\n])*"?|`[^`]*`?|#[^\n]*|\n|[=!<>]=|[-+*/%|&<>]|[\[{(]|[\]})]|[,;]|:=|[=!:]'
    r'|[^-\s"`#+*/%|&<>=!:\[\](){},;]+'
)
_OVER_LINES = re.compile(r"(?:[-+*/%|&<>=]|\bin)[^\S\n]*(?:#[^\n]*)?\n|\n[^\S\n]*(?:[-+*/%|&<>]|[=!]=|in\b)")

Place = tuple[int, int]


def too_deep(text: str) -> Place | None:
    """Line and column of the first bracket, or operator, that is one too many."""
    at = _nested(text)
    if at is None and _may_be_chained(text):
        at = _chained(text)
    if at is None:
        return None
    return text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1


def _nested(text: str) -> int | None:
    depth = attempts = 0
    for found in _BRACKET.finditer(text):
        token = found[0]
        if token in ("[", "{"):
            depth += 1
            attempts += 1 << min(depth, 40)
            if attempts > _MOST_ATTEMPTS:
                return found.start()
        elif token in ("]", "}"):
            depth = max(0, depth - 1)
    return None


def _may_be_chained(text: str) -> bool:
    """Whether many operators may follow each other: in a long line, or over the ends of lines."""
    return _OVER_LINES.search(text) is not None or any(
        len(line) > _MOST_OPERATORS for line in text.split("\n")
    )


def _chained(text: str) -> int | None:
    """An expression goes on in the next line if this line ends with an operator, or that one begins so."""
    counts, was_operator, is_new_line = [0], False, False
    for found in _TOKEN.finditer(text):
        part = found[0]
        if part == "\n":
            is_new_line = is_new_line or not was_operator
            continue
        if part[0] == "#":
            continue
        is_operator = part in _OPERATORS
        if part in (",", ";") or (is_new_line and not is_operator):
            counts[-1] = 0
        was_operator, is_new_line = is_operator, False
        if is_operator:
            counts[-1] += 1
            if counts[-1] > _MOST_OPERATORS:
                return found.start()
        elif part in ("[", "{", "("):
            counts.append(0)
        elif part in ("]", "}", ")") and len(counts) > 1:
            counts.pop()
    return None
