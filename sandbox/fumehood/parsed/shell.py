"""A shell's text as its simple commands: words, redirections, and what is not known until it runs.

tree-sitter's bash grammar says where commands, words and expansions are; each word is then read here,
and every byte between the parts is looked at again, because the grammar forgives more than a shell
does. Where the two do not agree, or something is not known here, the text is unparseable. Nothing is
expanded, and no file is looked at. Bounded: length, and the parser's own steps, which are counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, cast

from fumehood.canonical import JSON
from fumehood.parsed.words import Unparseable, Word, word_of

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

__all__ = ["MAX_COMMAND_BYTES", "shell_of"]

MAX_COMMAND_BYTES = 8192
_MAX_STEPS = 400  # of the parser, 100 operations each; usual commands take none, 8 KB of them 50
_MAX_DEPTH = 40

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")
_BLANK = re.compile(rb"[ \t\n]*\Z")
_GAP = re.compile(rb"[ \t]+\Z")
_DELIMITER = re.compile(rb"(?P<quote>['\"]?)(?P<word>[A-Za-z0-9_]{1,64})(?P=quote)\Z")
_ASSIGNS = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*(?:\[.*)?\+?=", re.DOTALL)
_VARIABLE = re.compile(rb"\$(?:[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-])\Z")
_OPEN_IN_BODY = re.compile(rb"(?<!\\)(?:`|\$[A-Za-z0-9_@*#?$!({\[-])")

_WORDS = frozenset(
    {"word", "number", "string", "raw_string", "ansi_c_string", "translated_string", "concatenation"}
    | {"simple_expansion", "expansion", "command_substitution", "process_substitution"}
    | {"arithmetic_expansion", "brace_expression", "test_operator", "variable_name", "special_variable_name"}
)
_EXPANSIONS = {
    "simple_expansion": "variable",
    "expansion": "variable",
    "command_substitution": "substitution",
    "process_substitution": "substitution",
    "arithmetic_expansion": "arithmetic",
    "brace_expression": "brace",
    "ansi_c_string": "ansi_c",
    "translated_string": "ansi_c",
}
_GROUPS = {
    "program": None,
    "list": None,
    "pipeline": None,
    "redirected_statement": None,
    "subshell": "subshell",
    "compound_statement": "group",
    "negated_command": "not",
    "variable_assignments": "assignment",
}
_CONTROL_FLOW = {
    "if_statement": "control",
    "elif_clause": "control",
    "else_clause": "control",
    "while_statement": "control",
    "for_statement": "control",
    "do_group": "control",
    "case_statement": "control",
    "case_item": "control",
    "function_definition": "function",
}
_OPERATORS = {
    "|": "pipe", "|&": "pipe", "&&": "and", "||": "or", ";": "list", "\n": "list", "&": "background",
    "(": None, ")": None, "{": None, "}": None, "!": None,
}  # fmt: skip
_RESERVED = frozenset(
    {"if", "then", "elif", "else", "fi", "for", "in", "do", "done", "case", "esac", "while", "until"}
    | {"select", "function", "time", "coproc", "{", "}", "!", "[[", "]]"}
)
_NAMED = ("declaration_command", "unset_command")


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
    reader.visit(_tree(source), 0)
    return reader.answer()


def _tree(source: bytes) -> Node:
    steps = 0

    def count(*_: object) -> bool:
        nonlocal steps
        steps += 1
        return steps > _MAX_STEPS

    try:
        tree = _parser().parse(lambda offset, _: source[offset:], progress_callback=count)
    except ValueError:  # stopped
        raise Unparseable("it is too intricate") from None
    if tree.root_node.has_error:
        raise Unparseable("it is not a command that bash would accept")
    return tree.root_node


@cache
def _grammar() -> object:
    import tree_sitter_bash
    from tree_sitter import Language

    return Language(tree_sitter_bash.language())


def _parser() -> Parser:
    """A new one each time: a parser belongs to one thread, and keeps what a stopped parse left."""
    from tree_sitter import Parser

    return Parser(_grammar())  # type: ignore[arg-type]


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
        if kind in _GROUPS or kind in _CONTROL_FLOW:
            self._group(node, depth)
        elif kind == "command":
            self._command(node, depth)
        elif kind in _NAMED:
            self._named(node, depth)
        elif kind == "variable_assignment":
            self._assignment(node, depth)
        elif kind in ("file_redirect", "herestring_redirect", "heredoc_redirect"):
            self._redirect(node, depth)
        elif kind == "test_command":
            self._test(node, depth)
        elif kind != "comment":
            raise Unparseable("it uses a form that is not read here")

    def _group(self, node: Node, depth: int) -> None:
        self._check_gaps(node)
        name = _GROUPS.get(node.type) or _CONTROL_FLOW.get(node.type)
        if name:
            self.uses.add(name)
        is_control = node.type in _CONTROL_FLOW
        statements = 0
        for child in node.children:
            if child.type == "!":
                self._check_gap(child.end_byte, _next_start(child), _GAP)
            if not child.is_named:
                self._operator(child, is_control=is_control)
            elif is_control and child.type in _WORDS:
                self._inside(child, depth)
            else:
                statements += child.type != "comment"
                self.visit(child, depth + 1)
        if node.type in ("program", "compound_statement", "subshell") and statements > 1:
            self.uses.add("list")

    def _operator(self, node: Node, *, is_control: bool) -> None:
        if node.type in _OPERATORS:
            name = _OPERATORS[node.type]
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
            if not words and child.type in ("command_name", *_WORDS) and _ASSIGNS.match(self._raw(child)):
                raise Unparseable("an assignment is not read")
            if child.type == "command_name":
                words.append(self._only_word(child, depth))
            elif child.type == "variable_assignment" and not words:
                assigned.append(self._assignment(child, depth))
            elif child.type in _WORDS or child.type == "variable_assignment":
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
        if words[0].text in _RESERVED:
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
        self._check_heredoc(node, parts["heredoc_start"], parts["heredoc_body"], parts["heredoc_end"])
        self.redirects.append({"operator": "<<", "target": UNKNOWN})
        for child in node.children:
            if child.type == "heredoc_body":
                self._inside(child, depth)
            elif child.is_named and child.type not in (*parts, "file_descriptor"):
                self.visit(child, depth + 1)
            elif not child.is_named and child.type not in ("<<", "<<-", *_OPERATORS):
                raise Unparseable("a here-document is followed by something that is not read here")
            elif not child.is_named and child.type in _OPERATORS:
                self._operator(child, is_control=False)

    def _check_heredoc(self, node: Node, start: Node, body: Node, end: Node) -> None:
        """It ends where a shell ends it, and nothing in it runs that the grammar did not find."""
        found = _DELIMITER.match(self._raw(start))
        line_end = self.source.find(b"\n", start.end_byte)
        if found is None or line_end < 0 or b"\\\n" in self.source:
            raise Unparseable("a here-document's end is not read")
        strip = b"\t" if any(child.type == "<<-" for child in node.children) else b""
        at = line_end + 1
        for line in self.source[at:].split(b"\n"):
            if (line.lstrip(strip) if strip else line) == found["word"]:
                break
            at += len(line) + 1
        if end.end_byte != at + len(line) or body.start_byte < line_end:
            raise Unparseable("a here-document's end is not read")
        if found["quote"]:
            return
        rest, last = b"", line_end
        for begin, (stop, _) in sorted(_spans(body).items()):
            rest, last = rest + self.source[last:begin] + b" ", stop
        if _OPEN_IN_BODY.search(rest + self.source[last : end.start_byte]):
            raise Unparseable("a here-document holds an expansion that is not read")

    def _word(self, node: Node, depth: int) -> Word:
        self._inside(node, depth)
        return word_of(self._raw(node), node.start_byte, _spans(node))

    def _only_word(self, node: Node, depth: int) -> Word:
        if node.child_count != 1:
            raise Unparseable("a command's name is not read")
        return self._word(node.children[0], depth)

    def _inside(self, node: Node, depth: int) -> None:
        """What runs inside a word: the commands of its substitutions, at any depth."""
        for found in _substitutions(node):
            self.uses.add("substitution")
            self._check_gaps(found)
            if depth >= _MAX_DEPTH:
                raise Unparseable("it is nested too deeply")
            for child in found.children:
                if child.is_named:
                    self.visit(child, depth + 1)
                elif _OPERATORS.get(child.type):
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


UNKNOWN = "unparseable"


def _known(word: Word) -> str:
    return UNKNOWN if word.uses else word.text


def _is_wordy(node: Node) -> bool:
    return node.type in _WORDS or node.type in ("command_name", "variable_assignment") or not node.is_named


def _next_start(node: Node) -> int:
    return node.next_sibling.start_byte if node.next_sibling else node.end_byte


def _spans(node: Node) -> dict[int, tuple[int, str]]:
    """Where the outermost expansions of a word begin and end."""
    found: dict[int, tuple[int, str]] = {}
    stack = [node]
    while stack:
        here = stack.pop()
        if here.type in _EXPANSIONS:
            if here.type == "simple_expansion" and _VARIABLE.match(here.text or b"") is None:
                raise Unparseable("an expansion is not read")
            found[here.start_byte] = (here.end_byte, _EXPANSIONS[here.type])
        else:
            stack.extend(here.children)
    return found


def _substitutions(node: Node) -> Iterator[Node]:
    """The outermost substitutions below *node*, itself included."""
    stack = [node]
    while stack:
        here = stack.pop()
        if here.type in ("command_substitution", "process_substitution"):
            yield here
        else:
            stack.extend(reversed(here.children))
