"""SQL as its statements: kinds, tables, functions; and what several readers could read differently."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fumehood.model import SQL_DIALECTS
from fumehood.parsed.sql import MAX_SQL_BYTES, sql_of
from fumehood.parsed.words import Unparseable


def parsed(text: str, dialect: str | None = None) -> dict[str, Any]:
    return cast("dict[str, Any]", sql_of(text, dialect))


STATEMENTS = [
    ("select a from b where c = 1", None, ["select"], ["b"], []),
    ('SELECT * FROM Users u JOIN "Orders" o ON u.id = o.id', "postgres", ["select"], ["Orders", "users"], []),
    ("select * from a.b.c; drop table d", "postgres", ["drop", "select"], ["a.b.c"], ["d"]),
    ("WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", "postgres", ["delete", "select"], ["t"], ["t"]),
    ("WITH users AS (SELECT 1) SELECT * FROM users", None, ["select"], [], []),
    ("WITH users AS (SELECT * FROM users) SELECT * FROM users", None, ["select"], ["users"], []),
    ("SELECT * FROM (WITH s AS (SELECT 1) SELECT 1) x, s", None, ["select"], ["s"], []),
    ("insert into a (x) select y from c", None, ["insert"], ["c"], ["a"]),
    ("insert into t values (1) on conflict do update set x = 2", "postgres", ["insert", "update"], [], ["t"]),
    ("update t set x = 1 where id in (select id from u)", None, ["update"], ["t", "u"], ["t"]),
    ("update a join b on a.x = b.x set a.y = 1", "mysql", ["update"], ["a", "b"], ["a", "b"]),
    ("delete from t", None, ["delete"], ["t"], ["t"]),
    ("select * into new from old", "tsql", ["create", "select"], ["old"], ["new"]),
    ("select * from t for update", "postgres", ["lock", "select"], ["t"], []),
    ("create table x as select * from y", None, ["create"], ["y"], ["x"]),
    ("truncate x, y", "postgres", ["truncate"], [], ["x", "y"]),
    ("copy t to program 'rm'", "postgres", ["copy"], ["t"], ["t"]),
    ("select * from 'x.parquet'", "duckdb", ["select"], ['"x.parquet"'], []),
    ("select * from db..t", "tsql", ["select"], ["db..t"], []),
    ("select * from read_csv('/etc/passwd')", "duckdb", ["select"], ["unparseable"], []),
    ("pragma table_info(x)", "sqlite", ["pragma"], [], []),
    ("-- c\nselect 1 /* d */;", None, ["select"], [], []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "dialect", "kinds", "reads", "writes"), STATEMENTS)
def test_statements_are_named_with_their_tables(
    text: str, dialect: str | None, kinds: list[str], reads: list[str], writes: list[str]
) -> None:
    found = parsed(text, dialect)
    assert (found["kinds"], found["writes"]) == (kinds, writes)
    assert set(reads) <= set(found["reads"])
    assert set(found["reads"]) <= set(reads) | set(writes)


def test_functions_that_the_parser_does_not_know_stand_apart() -> None:
    found = parsed("select count(*), pg_read_file('/etc/passwd'), s.mine(1) from t", "postgres")
    assert found["functions"] == ["count", "mine", "pg_read_file"]
    assert found["other_functions"] == ["mine", "pg_read_file"]


UNREAD = [
    ("", None), (";", None), ("hello world", None), ("select 1; hello", None),
    ("explain analyze delete from t", "postgres"), ("do $$ begin end $$", "postgres"), ("call p()", "mysql"),
    ("exec sp_x", "tsql"), ("select 1 shutdown", "tsql"), ("select 1 shutdown", None), ("vacuum", "postgres"),
    ("select 1 /*!50000 union select 2 */", "mysql"), ("select 1 /*M! + 1 */", "mysql"),
    ("select 1--1", None),
    ("select 'a\\' union select b from c -- '", None), ("select 1\x00", None), ("select `a` from [b]", None),
    ("select '", None), ("select " + "(" * 40 + "1" + ")" * 40, None), ("select " + "a, " * 9000 + "1", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "dialect"), UNREAD)
def test_text_that_is_not_read_is_unparseable(text: str, dialect: str | None) -> None:
    with pytest.raises(Unparseable):
        print(parsed(text, dialect))


@pytest.mark.parametrize("dialect", sorted(SQL_DIALECTS))
def test_nothing_is_logged_of_what_is_not_read(dialect: str, caplog: pytest.LogCaptureFixture) -> None:
    for text in (
        "call list schema ",
        "fetch kill `drop table ",
        "set a=1 localtime not rollback",
        "select a -> '$.x[1.5]'",
    ):
        try:
            parsed(text, dialect)
        except Unparseable:
            continue
    assert caplog.records == []


@pytest.mark.parametrize("dialect", sorted(SQL_DIALECTS))
def test_steps_are_counted_in_every_dialect(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fumehood.parsed.sql._MAX_STEPS", 3)
    with pytest.raises(Unparseable):
        parsed("select a, b, c from t", dialect)


FAULTS = [
    ("create default format for 1", "spark"),
    ("desc volatile default range ", "postgres"),
    ("map (select a from u)amap try_cast(create begin <> grouping sets &< }", "databricks"),
]


@pytest.mark.parametrize(("text", "dialect"), FAULTS)
def test_mistake_of_the_parser_is_unparseable(text: str, dialect: str) -> None:
    with pytest.raises(Unparseable):
        parsed(text, dialect)


def test_each_dialect_that_an_annotation_may_name_is_known_to_the_parser() -> None:
    for dialect in SQL_DIALECTS:
        assert parsed("select a from b", dialect)["reads"] == ["b"]


HOSTILE = (
    "(",
    "case when ",
    "not ",
    "select (",
    "a, ",
    "a and ",
    "union select 1 ",
    "[",
    "cast(",
    ";",
    "f(",
    "- ",
)


@pytest.mark.parametrize("bit", HOSTILE)
def test_hostile_text_ends_soon(bit: str) -> None:
    text = ("select " + bit * MAX_SQL_BYTES)[:MAX_SQL_BYTES]
    begun = time.process_time()
    try:
        parsed(text)
    except Unparseable:
        pass
    assert time.process_time() - begun < 5  # typically under 0.3


WORDS = (
    *[
        "select ",
        "a",
        "b",
        " from ",
        "t",
        "u",
        " where ",
        "(",
        ")",
        ",",
        "*",
        "=",
        "'x'",
        ";",
        " join ",
        " on ",
    ],
    *["with c as (", "delete from ", "update ", " set ", "insert into ", " values ", "drop table ", " as "],
    *[" union ", "count(", "--", "/*", "*/", '"', "`", "\n", "1", ".", " into ", "\\", "'"],
)


@settings(max_examples=150, deadline=None)
@given(bits=st.lists(st.sampled_from(WORDS), max_size=14))
def test_whatever_stands_there_is_parsed_or_unparseable(bits: list[str]) -> None:
    try:
        found = parsed("".join(bits))
    except Unparseable:
        return
    assert found["statements"]
    assert all(statement["kinds"] for statement in found["statements"])


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(["delete", "update", "insert", "drop"]),
    bits=st.lists(st.sampled_from(WORDS), max_size=4),
)
def test_a_statement_that_writes_is_never_hidden_behind_one_that_reads(name: str, bits: list[str]) -> None:
    forms = {
        "delete": "delete from secret",
        "update": "update secret set a = 1",
        "insert": "insert into secret values (1)",
        "drop": "drop table secret",
    }
    try:
        found = parsed("".join(bits) + ";" + forms[name])
    except Unparseable:
        return
    if "'" not in "".join(bits) and "-" not in "".join(bits) and "/" not in "".join(bits):
        assert name in found["kinds"] or '"' in "".join(bits) or "`" in "".join(bits)
