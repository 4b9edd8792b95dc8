"""A here-document ends where a shell ends it, and holds no expansion that the grammar did not find."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fumehood.parsed.grammar import spans_of
from fumehood.parsed.words import Unparseable

if TYPE_CHECKING:
    from tree_sitter import Node

__all__ = ["check_heredoc"]

_DELIMITER = re.compile(rb"(?P<quote>['\"]?)(?P<word>[A-Za-z0-9_]{1,64})(?P=quote)\Z")
_OPEN_IN_BODY = re.compile(rb"(?<!\\)(?:\\\\)*(?:`|\$[A-Za-z0-9_@*#?$!({\[-])")


def check_heredoc(source: bytes, node: Node, start: Node, body: Node, end: Node) -> None:
    """Compare the grammar's parts of the here-document *node* with what *source* says.

    Raises:
        Unparseable: they differ, or it cannot be told.
    """
    found = _DELIMITER.match(source[start.start_byte : start.end_byte])
    line_end = source.find(b"\n", start.end_byte)
    if found is None or line_end < 0 or b"\\\n" in source:
        raise Unparseable("a here-document's end is not read")
    strip = b"\t" if any(child.type == "<<-" for child in node.children) else b""
    at = line_end + 1
    for line in source[at:].split(b"\n"):
        if (line.lstrip(strip) if strip else line) == found["word"]:
            break
        at += len(line) + 1
    if end.end_byte != at + len(line) or body.start_byte < line_end:
        raise Unparseable("a here-document's end is not read")
    if found["quote"]:
        return
    rest, last = b"", line_end
    for begin, (stop, _) in sorted(spans_of(body).items()):
        rest, last = rest + source[last:begin] + b" ", stop
    if _OPEN_IN_BODY.search(rest + source[last : end.start_byte]):
        raise Unparseable("a here-document holds an expansion that is not read")
