"""What tree-sitter's bash grammar makes of a text, and what its kinds of nodes mean here.

The one place that knows the library. The parser's steps are counted, so that hostile text ends soon.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from fumehood.parsed.words import Unparseable

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

__all__ = [
    "CONTROL_FLOW",
    "EXPANSIONS",
    "GROUPS",
    "NAMED",
    "OPERATORS",
    "RESERVED",
    "WORDS",
    "next_start",
    "spans_of",
    "substitutions_in",
    "tree_of",
]

_MAX_STEPS = 400  # of the parser, 100 operations each; usual commands take none, 8 KB of them 50
_VARIABLE = re.compile(rb"\$(?:[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-])\Z")

WORDS = frozenset(
    {"word", "number", "string", "raw_string", "ansi_c_string", "translated_string", "concatenation"}
    | {"simple_expansion", "expansion", "command_substitution", "process_substitution"}
    | {"arithmetic_expansion", "brace_expression", "test_operator", "variable_name", "special_variable_name"}
)
EXPANSIONS = {
    "simple_expansion": "variable",
    "expansion": "variable",
    "command_substitution": "substitution",
    "process_substitution": "substitution",
    "arithmetic_expansion": "arithmetic",
    "brace_expression": "brace",
    "ansi_c_string": "ansi_c",
    "translated_string": "ansi_c",
}
GROUPS = {
    "program": None,
    "list": None,
    "pipeline": None,
    "redirected_statement": None,
    "subshell": "subshell",
    "compound_statement": "group",
    "negated_command": "not",
    "variable_assignments": "assignment",
}
CONTROL_FLOW = {
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
OPERATORS = {
    "|": "pipe", "|&": "pipe", "&&": "and", "||": "or", ";": "list", "\n": "list", "&": "background",
    "(": None, ")": None, "{": None, "}": None, "!": None,
}  # fmt: skip
RESERVED = frozenset(
    {"if", "then", "elif", "else", "fi", "for", "in", "do", "done", "case", "esac", "while", "until"}
    | {"select", "function", "time", "coproc", "{", "}", "!", "[[", "]]"}
)
NAMED = ("declaration_command", "unset_command")


def tree_of(source: bytes) -> Node:
    """The root of the tree.

    Raises:
        Unparseable: the grammar finds an error, or needs too many steps.
        ImportError: it is not installed.
    """
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


def spans_of(node: Node) -> dict[int, tuple[int, str]]:
    """Where the outermost expansions of a word begin and end."""
    found: dict[int, tuple[int, str]] = {}
    stack = [node]
    while stack:
        here = stack.pop()
        if here.type in EXPANSIONS:
            if here.type == "simple_expansion" and _VARIABLE.match(here.text or b"") is None:
                raise Unparseable("an expansion is not read")
            found[here.start_byte] = (here.end_byte, EXPANSIONS[here.type])
        else:
            stack.extend(here.children)
    return found


def substitutions_in(node: Node) -> Iterator[Node]:
    """The outermost substitutions below *node*, itself included."""
    stack = [node]
    while stack:
        here = stack.pop()
        if here.type in ("command_substitution", "process_substitution"):
            yield here
        else:
            stack.extend(reversed(here.children))


def next_start(node: Node) -> int:
    """Where the node behind *node* begins; where there is none, where it ends."""
    return node.next_sibling.start_byte if node.next_sibling else node.end_byte
