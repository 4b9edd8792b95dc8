"""SQL as its statements: their kinds, the tables that they read and write, the functions that they call.

sqlglot parses; what it passes through unread (its `Command`) is unparseable here. A database's own
dialect is named by the tool's annotation; without one the text must mean the same in several. Nothing
is connected to, and no name is resolved: a view, a trigger or a function can do more than its name says.
Bounded: length, depth of brackets, and the parser's own steps, which are counted, since it backtracks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from fumehood.canonical import JSON
from fumehood.parsed.words import Unparseable

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.parser import Parser

__all__ = ["KINDS", "MAX_SQL_BYTES", "sql_of"]

MAX_SQL_BYTES = 8192
_MAX_STEPS = 30_000  # tokens stepped over, those that are read again counted again
_MAX_BRACKETS = 32
_WITHOUT_DIALECT = ("postgres", "mysql", "sqlite", "tsql")

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_EXECUTABLE_COMMENT = re.compile(r"/\*\s*M?!")  # MySQL and MariaDB run what stands in these
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*\Z")
_SHORT_COMMENT = re.compile(r"--(?![\s]|\Z)")  # a comment to most, two minus signs to MySQL

# Classes of sqlglot that are a statement → the kind that policies see. What is not here is not read.
KINDS = {
    "Select": "select", "SetOperation": "select", "Union": "select", "Intersect": "select",
    "Except": "select", "Subquery": "select", "Values": "select",
    "Insert": "insert", "Update": "update", "Delete": "delete", "Merge": "merge",
    "Create": "create", "Drop": "drop", "Alter": "alter", "TruncateTable": "truncate",
    "Comment": "comment", "Grant": "grant", "Revoke": "revoke", "Copy": "copy", "LoadData": "load",
    "Set": "set", "Use": "use", "Pragma": "pragma", "Attach": "attach", "Detach": "detach",
    "Transaction": "transaction", "Commit": "transaction", "Rollback": "transaction",
    "Describe": "describe", "Show": "show", "Analyze": "analyze", "Kill": "kill",
}  # fmt: skip
# T-SQL parts statements by nothing at all, so that these could be one where a name is read.
_LONE = frozenset(
    {"begin", "break", "checkpoint", "close", "commit", "continue", "deallocate", "declare", "delete", "drop"}
    | {"dump", "end", "exec", "execute", "fetch", "goto", "insert", "kill", "load", "merge", "open", "print"}
    | {"raiserror", "reconfigure", "restore", "return", "revert", "rollback", "save", "select", "set"}
    | {"shutdown", "throw", "truncate", "update", "use", "waitfor", "while", "if", "alter", "create", "grant"}
    | {"revoke", "deny", "backup", "bulk", "dbcc", "disable", "enable", "readtext", "writetext", "updatetext"}
)
_NESTED = ("Insert", "Update", "Delete", "Merge", "Create", "Drop", "Alter", "TruncateTable", "Copy")


def sql_of(text: str, dialect: str | None) -> JSON:
    """`{statements, kinds, reads, writes, functions, other_functions}`: see `docs/parsed-arguments.md`.

    Raises:
        Unparseable: with why.
        ImportError: the parser is not installed.
    """
    _check_text(text)
    if dialect is not None:
        return _answer(_read(text, dialect))
    readings = [_read(text, each) for each in _WITHOUT_DIALECT]
    called = ("functions", "other_functions")  # the same function has a name in each dialect
    shapes = [[{**s, **dict.fromkeys(called, ())} for s in reading] for reading in readings]
    if any(shape != shapes[0] for shape in shapes):
        raise Unparseable("dialects read it differently; annotate the tool's sql_dialect")
    for index, statement in enumerate(readings[0]):
        for names in called:
            statement[names] = sorted({name for reading in readings for name in reading[index][names]})
    return _answer(readings[0])


def _check_text(text: str) -> None:
    if not text.strip():
        raise Unparseable("it holds no statement")
    if len(text.encode()) > MAX_SQL_BYTES:
        raise Unparseable(f"it is longer than {MAX_SQL_BYTES} bytes")
    if _CONTROL.search(text):
        raise Unparseable("it holds a control character")
    if _EXECUTABLE_COMMENT.search(text) or _SHORT_COMMENT.search(text):
        raise Unparseable("it holds a comment that some databases run")
    depth = most = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        most = max(most, depth)
    if most > _MAX_BRACKETS:
        raise Unparseable("it is nested too deeply")


def _answer(statements: list[dict[str, Any]]) -> JSON:
    def joined(name: str) -> JSON:
        return sorted({item for statement in statements for item in statement[name]})

    return {
        "statements": cast("JSON", statements),
        **{name: joined(name) for name in ("kinds", "reads", "writes", "functions", "other_functions")},
    }


def _read(text: str, dialect: str) -> list[dict[str, Any]]:
    from sqlglot.errors import SqlglotError

    try:
        trees = _parse(text, dialect)
    except (SqlglotError, RecursionError, _TooMuch, *_FAULTS):
        raise Unparseable("it is not SQL that is read here") from None
    statements = [tree for tree in trees if tree is not None and type(tree).__name__ != "Semicolon"]
    if not statements:
        raise Unparseable("it holds no statement")
    if dialect == "tsql" and any(_may_be_statement(name) for tree in statements for name in tree.walk()):
        raise Unparseable("a name of it may be a statement")
    return [_statement(tree) for tree in statements]


# The parser's own mistakes, on text that is not SQL: found by generating some.
_FAULTS = (TypeError, IndexError, KeyError, AttributeError, ValueError)


class _TooMuch(Exception):
    """The parser took too many steps."""


def _parse(text: str, dialect: str) -> list[exp.Expr | None]:
    from sqlglot import Dialect

    chosen = Dialect.get_or_raise(dialect)  # a new one
    chosen.STRICT_JSON_PATH_SYNTAX = False  # or it writes what it cannot read into the log
    tokens = chosen.tokenize(text)
    return _bounded(chosen.parser_class)(dialect=chosen, max_nodes=_MAX_STEPS).parse(tokens, text)


@cache
def _bounded(base: type[Parser]) -> type[Parser]:
    class Bounded(base):  # type: ignore[valid-type,misc]
        """Counts its steps, and says nothing on any log."""

        steps = 0

        def _advance(self, times: int = 1) -> None:
            self.steps += 1
            if self.steps > _MAX_STEPS:
                raise _TooMuch
            super()._advance(times)

        def _warn_unsupported(self) -> None:
            raise _TooMuch

    return Bounded


def _statement(tree: exp.Expr) -> dict[str, Any]:
    from sqlglot import exp

    kind = KINDS.get(type(tree).__name__)
    if kind is None or tree.find(exp.Command) is not None:
        raise Unparseable("a statement of it is not read here")
    kinds, reads, writes = {kind}, set(), set()
    for node in tree.walk():
        name = type(node).__name__
        if name in _NESTED:
            kinds.add(KINDS[name])
            writes |= {_name(table) for table in _targets(node)}
        elif name == "OnConflict":
            kinds.add("update")
        elif name == "Into":
            kinds.add("create")
            writes |= {_name(table) for table in node.find_all(exp.Table)}
        elif name == "In" and node.args.get("field") is not None:
            reads.add(_in_table(node.args["field"]))
        elif name == "Lock":
            kinds.add("lock")
        elif name == "Table" and not _is_cte(node):
            reads |= {_name(node)} if not _is_pure_target(node) else set()
    return {
        "kind": kind,
        "kinds": sorted(kinds),
        "reads": sorted(reads),
        "writes": sorted(writes),
        "functions": sorted(_functions(tree)),
        "other_functions": sorted({str(f.this).lower() for f in tree.find_all(exp.Anonymous)}),
    }


def _may_be_statement(node: exp.Expr) -> bool:
    from sqlglot import exp

    return (
        isinstance(node, exp.Identifier) and not node.args.get("quoted") and str(node.this).lower() in _LONE
    )


def _targets(node: exp.Expr) -> Iterator[exp.Table]:
    """The tables that a statement changes, joined ones too."""
    from sqlglot import exp

    for part in ("this", "expressions", "tables"):
        found = node.args.get(part)
        for each in found if isinstance(found, list) else [found]:
            if isinstance(each, exp.Expr):
                yield from (t for t in each.find_all(exp.Table) if part != "expressions" or _is_plain(node))


def _is_plain(node: exp.Expr) -> bool:
    return type(node).__name__ in ("TruncateTable", "Drop")


def _is_pure_target(table: exp.Expr) -> bool:
    """What an insert, a create or a drop names is written, not read."""
    from sqlglot import exp

    parent = table.parent
    inner: exp.Expr = table
    if isinstance(parent, exp.Schema):
        inner, parent = parent, parent.parent
    if type(parent).__name__ in ("Insert", "Create", "Drop", "TruncateTable", "Into"):
        return inner.arg_key in ("this", "expressions")
    return False


def _is_cte(table: exp.Expr) -> bool:
    """Whether a name means a `WITH` that can be seen from where it stands."""
    from sqlglot import exp

    if table.args.get("db") is not None or not isinstance(table.this, exp.Identifier):
        return False
    name, node = _part(table.this), table
    while (parent := node.parent) is not None:
        if name in _visible(parent, node):
            return True
        node = parent
    return False


def _visible(parent: exp.Expr, node: exp.Expr) -> set[str]:
    """The names that a `WITH` in *parent* gives to what stands in *node*: in a `WITH`, those before it."""
    from sqlglot import exp

    if isinstance(parent, exp.With):
        index = next((i for i, cte in enumerate(parent.expressions) if cte is node), 0)
        seen = parent.expressions if parent.args.get("recursive") else parent.expressions[:index]
    else:
        clause = parent.args.get("with_") or parent.args.get("with")
        seen = clause.expressions if isinstance(clause, exp.With) and node is not clause else []
    return {_part(cte.args["alias"].this) for cte in seen if cte.args.get("alias")}


def _name(table: exp.Expr) -> str:
    """`catalog.schema.table`; without quotes in lower case, with quotes as written."""
    from sqlglot import exp

    if not isinstance(table.this, exp.Identifier):
        return "unparseable"
    parts = [table.args.get(part) for part in ("catalog", "db", "this")]
    while parts[0] is None:
        del parts[0]
    return ".".join(_part(part) if isinstance(part, exp.Identifier) else "" for part in parts)


def _in_table(field: exp.Expr) -> str:
    """`x in t` reads a table in SQLite, and looks like a column to the parser."""
    from sqlglot import exp

    if not isinstance(field, exp.Column):
        return "unparseable"
    return ".".join(_part(part) for part in field.parts if isinstance(part, exp.Identifier))


def _part(identifier: exp.Expr) -> str:
    name = str(identifier.this)
    if not identifier.args.get("quoted"):
        return name.lower()
    return name if _PLAIN_NAME.match(name) else f'"{name}"'


def _functions(tree: exp.Expr) -> set[str]:
    from sqlglot import exp

    found = set()
    for node in tree.find_all(exp.Func):
        if isinstance(node, exp.Anonymous):
            found.add(str(node.this).lower())
        elif not isinstance(node, exp.Connector | exp.Predicate | exp.Cast | exp.Case):
            found.add(type(node).sql_name().lower())
    return found
