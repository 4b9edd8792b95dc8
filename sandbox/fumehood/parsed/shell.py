"""A shell's text as its simple commands: words, redirections, and what is not known until it runs.

tree-sitter's bash grammar says where commands, words and expansions are; each word is then read here,
and every byte between the parts is looked at again, because the grammar forgives more than a shell
does. Where the two do not agree, or something is not known here, the text is unparseable. Nothing is
expanded, and no file is looked at. Bounded: length, and the parser's own steps, which are counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from fumehood.canonical import JSON
from fumehood.parsed.grammar import (
    CONTROL_FLOW,
    GROUPS,
    NAMED,
    OPERATORS,
    RESERVED,
    WORDS,
    next_start,
    spans_of,
    substitutions_in,
    tree_of,
)
from fumehood.parsed.heredoc import check_heredoc
from fumehood.parsed.words import Unparseable, Word, word_of

if TYPE_CHECKING:
    from tree_sitter import Node

__all__ = ["MAX_COMMAND_BYTES", "shell_of"]

UNKNOWN = "unparseable"
MAX_COMMAND_BYTES = 8192
_MAX_DEPTH = 40

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")
_BLANK = re.compile(rb"[ \t\n]*\Z")
_GAP = re.compile(rb"[ \t]+\Z")
_BEFORE_COMMENT = (b" ", b"\t", b"\n", b";", b"|", b"&", b"(", b")")
_ASSIGNS = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*(?:\[.*)?\+?=", re.DOTALL)


def shell_of(text: str) -> JSON:
    """`{commands, redirects, uses, is_static}` of *text*, as `docs/parsed-arguments.md` describes it.

    Raises:
        Unparseable: with why.
        ImportError: the grammar is not installed.
    """
    if not text.strip(" \t\n"):
        raise Unparseable("it holds no command")
    if _CONTROL.search(text):
        raise Unparseable("it holds a control character")
    source = text.encode()
    if len(source) > MAX_COMMAND_BYTES:
        raise Unparseable(f"it is longer than {MAX_COMMAND_BYTES} bytes")
    reader = _Reader(source)
    reader.visit(tree_of(source), 0)
    return reader.answer()


@dataclass(slots=True)
class _Reader:
    source: bytes
    commands: list[JSON] = field(default_factory=list)
    redirects: list[JSON] = field(default_factory=list)
    uses: set[str] = field(default_factory=set)
    heredocs: int = 0

    def answer(self) -> JSON:
        if not self.commands:
            raise Unparseable("it holds no command")
        unknown = self.uses - {"pipe", "and", "or", "list", "background", "subshell", "group", "not"}
        unknown -= {"redirect", "heredoc", "assignment"}
        return {
            "commands": self.commands,
            "redirects": self.redirects,
            "uses": cast("JSON", sorted(self.uses)),
            "is_static": not unknown,
        }

    def visit(self, node: Node, depth: int) -> None:
        """Read a statement, and everything in it that runs."""
        if depth > _MAX_DEPTH:
            raise Unparseable("it is nested too deeply")
        kind = node.type
        if kind in GROUPS or kind in CONTROL_FLOW:
            self._group(node, depth)
        elif kind == "command":
            self._command(node, depth)
        elif kind in NAMED:
            self._named(node, depth)
        elif kind == "variable_assignment":
            self._assignment(node, depth)
        elif kind in ("file_redirect", "herestring_redirect", "heredoc_redirect"):
            self._redirect(node, depth)
        elif kind == "test_command":
            self._test(node, depth)
        elif kind == "comment":
            self._check_comment(node)
        else:
            raise Unparseable("it uses a form that is not read here")

    def _check_comment(self, node: Node) -> None:
        if self.source[max(0, node.start_byte - 1) : node.start_byte] not in (b"", *_BEFORE_COMMENT):
            raise Unparseable("a # stands where a shell sees no comment")

    def _group(self, node: Node, depth: int) -> None:
        self._check_gaps(node)
        name = GROUPS.get(node.type) or CONTROL_FLOW.get(node.type)
        if name:
            self.uses.add(name)
        is_control = node.type in CONTROL_FLOW
        statements = 0
        for child in node.children:
            if child.type == "!":
                self._check_gap(child.end_byte, next_start(child), _GAP)
            if not child.is_named:
                self._operator(child, is_control=is_control)
            elif is_control and child.type in WORDS:
                self._inside(child, depth)
            else:
                statements += child.type != "comment"
                self.visit(child, depth + 1)
        if node.type in ("program", "compound_statement", "subshell") and statements > 1:
            self.uses.add("list")

    def _operator(self, node: Node, *, is_control: bool) -> None:
        if node.type in OPERATORS:
            name = OPERATORS[node.type]
            if name:
                self.uses.add(name)
        elif not is_control:
            raise Unparseable("it uses an operator that is not read here")

    def _command(self, node: Node, depth: int) -> None:
        words: list[Word] = []
        assigned: list[str] = []
        previous = None
        for child in node.children:
            if previous is not None and _is_wordy(child):
                self._check_gap(previous.end_byte, child.start_byte, _GAP)
            previous = child
            if not words and child.type in ("command_name", *WORDS) and _ASSIGNS.match(self._raw(child)):
                raise Unparseable("an assignment is not read")
            if child.type == "command_name":
                words.append(self._only_word(child, depth))
            elif child.type == "variable_assignment" and not words:
                assigned.append(self._assignment(child, depth))
            elif child.type in WORDS or child.type == "variable_assignment":
                words.append(self._word(child, depth))
            elif child.type in ("file_redirect", "herestring_redirect"):
                self._redirect(child, depth)
            elif not child.is_named and child.type in ("$", "==", "=~"):
                words.append(self._word(child, depth))
            else:
                raise Unparseable("a command holds something that is not read here")
        self._check_gaps(node)
        self._add(words, assigned)

    def _named(self, node: Node, depth: int) -> None:
        """`export A=b`, `unset A`: built-ins that the grammar reads apart."""
        self.uses.add("assignment")
        self._check_gaps(node)
        for one, other in zip(node.children, node.children[1:], strict=False):
            self._check_gap(one.end_byte, other.start_byte, _GAP)
        self._add([self._word(child, depth) for child in node.children], [])

    def _test(self, node: Node, depth: int) -> None:
        self.uses.add("test")
        self._inside(node, depth)
        name = "[[" if self.source.startswith(b"[[", node.start_byte) else "["
        self.commands.append({"program": name, "words": [name, UNKNOWN], "is_static": False, "sets": []})

    def _add(self, words: list[Word], assigned: list[str]) -> None:
        if not words:
            raise Unparseable("a command has no name")
        if words[0].text in RESERVED:
            raise Unparseable("a reserved word stands where a command's name should")
        for word in words:
            self.uses |= word.uses
        self.commands.append(
            {
                "program": _known(words[0]),
                "words": [_known(word) for word in words],
                "is_static": not any(word.uses for word in words),
                "sets": list(assigned),
            }
        )

    def _assignment(self, node: Node, depth: int) -> str:
        """The name that is set."""
        self.uses.add("assignment")
        raw = self._raw(node)
        name = re.match(rb"[A-Za-z_][A-Za-z0-9_]*(?=\+?=)", raw)
        if name is None:
            raise Unparseable("an assignment is not read")
        self.uses |= self._word(node, depth).uses
        return name[0].decode()

    def _redirect(self, node: Node, depth: int) -> None:
        self._check_gaps(node)
        if node.type == "heredoc_redirect":
            self._heredoc(node, depth)
            return
        self.uses.add("redirect")
        self._check_descriptor(node)
        operator = next((c.type for c in node.children if not c.is_named), "")
        targets = [c for c in node.children if c.is_named and c.type != "file_descriptor"]
        if len(targets) != 1:
            raise Unparseable("a redirection is followed by words")
        target = self._word(targets[0], depth)
        self.uses |= target.uses
        self.redirects.append({"operator": operator, "target": _known(target)})

    def _check_descriptor(self, node: Node) -> None:
        """A number before the operator is a descriptor only where it is a word of its own."""
        first = node.children[0]
        before = self.source[first.start_byte - 1 : first.start_byte] if first.start_byte else b" "
        if first.type == "file_descriptor":
            is_own = self._raw(first).isdigit() and before in (
                b" ",
                b"\t",
                b"\n",
                b";",
                b"|",
                b"&",
                b"(",
                b")",
            )
        else:
            is_own = not before.isdigit()
        if not is_own:
            raise Unparseable("a redirection is read differently by the grammar and by a shell")

    def _heredoc(self, node: Node, depth: int) -> None:
        self.uses |= {"redirect", "heredoc"}
        self.heredocs += 1
        if self.heredocs > 1:
            raise Unparseable("it holds several here-documents")
        parts = {child.type: child for child in node.children if child.type.startswith("heredoc_")}
        if set(parts) != {"heredoc_start", "heredoc_body", "heredoc_end"}:
            raise Unparseable("a here-document is not closed")
        check_heredoc(self.source, node, parts["heredoc_start"], parts["heredoc_body"], parts["heredoc_end"])
        self.redirects.append({"operator": "<<", "target": UNKNOWN})
        for child in node.children:
            if child.type == "heredoc_body":
                self._inside(child, depth)
            elif child.is_named and child.type not in (*parts, "file_descriptor"):
                self.visit(child, depth + 1)
            elif not child.is_named and child.type not in ("<<", "<<-", *OPERATORS):
                raise Unparseable("a here-document is followed by something that is not read here")
            elif not child.is_named and child.type in OPERATORS:
                self._operator(child, is_control=False)

    def _word(self, node: Node, depth: int) -> Word:
        self._inside(node, depth)
        return word_of(self._raw(node), node.start_byte, spans_of(node))

    def _only_word(self, node: Node, depth: int) -> Word:
        if node.child_count != 1:
            raise Unparseable("a command's name is not read")
        return self._word(node.children[0], depth)

    def _inside(self, node: Node, depth: int) -> None:
        """What runs inside a word: the commands of its substitutions, at any depth."""
        for found in substitutions_in(node):
            self.uses.add("substitution")
            self._check_gaps(found)
            if depth >= _MAX_DEPTH:
                raise Unparseable("it is nested too deeply")
            for child in found.children:
                if child.is_named:
                    self.visit(child, depth + 1)
                elif OPERATORS.get(child.type):
                    self._operator(child, is_control=False)
                elif child.type not in ("$(", "`", ")", "<(", ">("):
                    raise Unparseable("a substitution holds something that is not read here")

    def _check_gaps(self, node: Node) -> None:
        """Nothing but blanks stands between the parts: the grammar skips more than a shell does."""
        at = node.start_byte
        for child in node.children:
            if child.start_byte > at:
                self._check_gap(at, child.start_byte, _BLANK)
            at = max(at, child.end_byte)
        if node.type == "program":
            self._check_gap(0, node.start_byte, _BLANK)
            self._check_gap(at, len(self.source), _BLANK)
        elif at < node.end_byte:
            self._check_gap(at, node.end_byte, _BLANK)

    def _check_gap(self, start: int, end: int, allowed: re.Pattern[bytes]) -> None:
        gap = self.source[start:end]
        rest = gap.replace(b"\\\n", b"")  # a line that goes on: what stands around it is one, but for blanks
        if allowed.match(rest) is None or (gap and not rest):
            raise Unparseable("parts of it are read differently by the grammar and by a shell")

    def _raw(self, node: Node) -> bytes:
        return self.source[node.start_byte : node.end_byte]


def _known(word: Word) -> str:
    return UNKNOWN if word.uses else word.text


def _is_wordy(node: Node) -> bool:
    return node.type in WORDS or node.type in ("command_name", "variable_assignment") or not node.is_named
