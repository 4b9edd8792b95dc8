"""What SQLite says that a text does, when it compiles it, was named: tables read and written, functions."""

from __future__ import annotations

import sqlite3
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fumehood.parsed.sql import sql_of
from fumehood.parsed.words import Unparseable

TABLES = ("t", "u", "secret")
DOES = {
    sqlite3.SQLITE_INSERT: "insert",
    sqlite3.SQLITE_UPDATE: "update",
    sqlite3.SQLITE_DELETE: "delete",
    sqlite3.SQLITE_DROP_TABLE: "drop",
    sqlite3.SQLITE_CREATE_TABLE: "create",
    sqlite3.SQLITE_ATTACH: "attach",
    sqlite3.SQLITE_PRAGMA: "pragma",
}
Seen = set[tuple[str, str]]


def seen_by_sqlite(text: str) -> Seen:
    """(what, on what) for everything that SQLite would do; statements behind one that fails are not seen."""
    link = sqlite3.connect(":memory:")
    for table in TABLES:
        link.execute(f"create table {table} (a, b)")
    seen: Seen = set()

    def note(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        is_named_only = not second and "with" in text  # a WITH that no column is read of is reported, too
        if action == sqlite3.SQLITE_READ and first and not is_named_only:
            seen.add(("read", first.lower()))
        elif action == sqlite3.SQLITE_FUNCTION and second:
            seen.add(("call", second.lower()))
        elif action in DOES and first and not first.startswith("sqlite_"):
            seen.add((DOES[action], first.lower()))
        return sqlite3.SQLITE_OK if action != sqlite3.SQLITE_ATTACH else sqlite3.SQLITE_DENY

    link.set_authorizer(note)
    try:
        link.executescript(text)
    except (sqlite3.Error, sqlite3.Warning):
        pass
    finally:
        link.close()
    return seen


def check(text: str, dialect: str | None) -> bool:
    """False: not parsed."""
    try:
        found = cast("dict[str, Any]", sql_of(text, dialect))
    except Unparseable:
        return False
    named = {name.split(".")[-1].strip('"').lower() for name in found["reads"] + found["writes"]}
    for what, name in seen_by_sqlite(text):
        if what == "call":
            assert found["functions"] or name in {"like", "glob", "->", "->>"}, (text, name, found)
            continue
        if name not in TABLES or what == "pragma":
            continue
        assert name in named, (text, what, name, found)
        assert what == "read" or {what, "drop"} & set(found["kinds"]), (
            text,
            what,
            name,
            found,
        )  # a drop deletes rows
    return True


BITS = (
    "select ", "select a", "* ", "a", "b", ",", " from ", "t", "u", "secret", " where ", "(", ")", "=",
    "1", " union ", " join ", " on ", "with t as (", "with recursive u as (", "with c as (", ") ", "c",
    " as ", ";", "--", "\n", "/*", "*/", "'", "\"", "`", "[", "]", " exists ", " in ", " in t", "not ",
    "count(", ".", "delete from ", "update ", " set a=1 ", "insert into ", " values (1,2)",
    "replace into ", "drop table ", "create table x as ", " returning ", "main.", " limit ",
    " order by ", "case when ", " end", "explain ", " on conflict do update set a=(", "pragma ",
    "attach 'x' as y", "indexed by", " t.a ", "values ", "select * from secret", "delete from secret",
    "(select a from u)", " from t ", " cross join ",
)  # fmt: skip


DIALECTS = st.sampled_from([None, "sqlite"])


@settings(max_examples=250, deadline=None)
@given(
    bits=st.lists(st.sampled_from(BITS), min_size=1, max_size=10), dialect=st.sampled_from([None, "sqlite"])
)
def test_sqlite_does_nothing_that_was_not_named(bits: list[str], dialect: str | None) -> None:
    check("".join(bits), dialect)


@pytest.mark.slow
@settings(max_examples=60_000, deadline=None)
@given(
    bits=st.lists(st.sampled_from(BITS), min_size=1, max_size=14), dialect=st.sampled_from([None, "sqlite"])
)
def test_sqlite_does_nothing_that_was_not_named_at_length(bits: list[str], dialect: str | None) -> None:
    check("".join(bits), dialect)


EXAMPLES = [
    "select a from t where b in (select a from secret)",
    "with t as (select 1 as c) select a from t, u",
    "with x as (select a from secret) select * from x",
    "select a from t; delete from secret",
    "insert into t select * from u where true on conflict do update set a = (select a from secret)",
    "update t set a = (select b from secret)",
    "select * from main.secret",
    'select * from "SECRET"',
    "select a from t union select a from (select a from secret)",
    "drop table secret",
    "select 1 in secret",
    "select 1 from t where a not in main.secret",
]


@pytest.mark.parametrize("text", EXAMPLES)
@pytest.mark.parametrize("dialect", [None, "sqlite"])
def test_examples_are_parsed_and_named(text: str, dialect: str | None) -> None:
    assert seen_by_sqlite(text)
    assert check(text, dialect)


def test_with_is_seen_only_where_it_stands() -> None:
    text = "select * from (with secret as (select 1 as a) select a from secret) x, secret"
    assert ("read", "secret") in seen_by_sqlite(text)
    assert check(text, "sqlite")
