"""Parsed arguments: only what a rule reads, bounded, and why where there is nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fumehood.canonical import JSON
from fumehood.model import PARSED_KINDS, PARSED_PLACES
from fumehood.normalise import unrecorded
from fumehood.parsed import missing_parsers, parsed_arguments
from fumehood.pdp.document import NormalisedPart

ALL = dict.fromkeys(PARSED_KINDS)


def parsed(args: JSON, reads: Any = ALL, **more: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", parsed_arguments(args, reads, **more))


def test_only_what_is_read_is_there() -> None:
    args: JSON = {"a": "/x", "b": "/y"}
    assert parsed(args, {}) == {}
    assert parsed(args, {"path": frozenset({"/b"})}) == {"paths": {"/b": "/y"}}
    assert parsed(args, {"path": None}) == {"paths": {"/a": "/x", "/b": "/y"}}
    assert set(parsed(args)) == {*PARSED_PLACES.values(), "unparseable"}


def test_parser_that_nobody_reads_is_not_loaded() -> None:
    code = (
        "import sys; from fumehood.parsed import parsed_arguments\n"
        "parsed_arguments({'a': '/x', 'b': 'ls'}, {'path': None, 'url': None, 'argv': None, 'file': None})\n"
        "print([m for m in ('sqlglot', 'tree_sitter', 'pydantic') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_parser_that_is_not_installed_says_so() -> None:
    code = (
        "import sys, json\n"
        "sys.modules['sqlglot'] = sys.modules['tree_sitter_bash'] = None\n"
        "from fumehood.parsed import parsed_arguments\n"
        "print(json.dumps(parsed_arguments({'a': 'ls'}, {'shell': None, 'sql': None})))"
    )
    found = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))
    assert found["shell"] == found["sql"] == {}
    assert "fumehood[parsers]" in found["unparseable"]["shell"]["/a"]
    assert "fumehood[parsers]" in found["unparseable"]["sql"]["/a"]


def test_missing_parsers_are_those_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fumehood.parsed.assemble.find_spec", lambda name: None)
    assert missing_parsers({"shell": None, "path": None}) == ("shell",)
    assert missing_parsers({"path": None}) == ()
    monkeypatch.undo()
    assert missing_parsers(ALL) == ()


WHY = [
    ("path", "", "empty"), ("path", "~/x", "~"), ("path", "a\0b", "NUL"), ("path", "a/b", "relative"),
    ("path", "http://a/", "URL"), ("path", "/" + "a" * 5000, "too long"),
    ("url", "a.example", "scheme"), ("url", "http://a@b/", "user information"),
    ("url", "http://a\\b", "backslash"),
    ("url", "http://a\tb/", "control"), ("url", "http:///x", "no host"),
    ("url", "http://ß.example/", "punycode"),
    ("url", "http://127.1/", "differently"), ("url", "http://0x7f.1/", "differently"),
    ("url", "http://%61/", "percent"),
    ("argv", "ls; rm", "simple command"), ("argv", " ", "empty"),
    ("shell", "echo 'x", "bash"), ("shell", "", "no command"), ("sql", "hello", "not read"),
    ("file", "~/x", "~"), ("file", "/proc/self/environ", "each process"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "why"), WHY)
def test_what_has_no_form_says_why_and_never_quotes(kind: str, text: str, why: str) -> None:
    found = parsed({"a": text}, {kind: None})
    assert found[PARSED_PLACES[kind]] == {}
    said = found["unparseable"][kind]["/a"]
    assert why in said
    assert len(text) < 4 or text not in said


def test_relative_path_is_taken_from_the_folder_of_the_call(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    (root / "models").mkdir()
    found = parsed({"a": "../x"}, {"path": None, "file": None}, cwd=f"{root}/models")
    assert found["paths"] == {"/a": f"{root}/x"}
    assert found["files"]["/a"]["leads_to"] == f"{root}/x"


def test_list_of_texts_is_an_argument_vector() -> None:
    args: JSON = {"cmd": ["ls", "a b"], "odd": ["a", 1], "deep": [{"x": ["b"]}]}
    found = parsed(args, {"argv": None})
    assert (found["argv"]["/cmd"], found["argv"]["/deep/0/x"]) == (["ls", "a b"], ["b"])
    assert "/odd" in found["unparseable"]["argv"]
    assert parsed(args, {"argv": frozenset({"/cmd"})}) == {"argv": {"/cmd": ["ls", "a b"]}}


def test_dialect_of_the_tool_is_used() -> None:
    text = "select `a` from b"
    assert "sql" in parsed({"q": text}, {"sql": None})["unparseable"]
    assert parsed({"q": text}, {"sql": None}, sql_dialect="mysql")["sql"]["/q"]["reads"] == ["b"]


def test_number_and_size_of_texts_are_bounded() -> None:
    many = parsed({"a": ["x"] * 5000}, {"path": None}, cwd="/")
    assert len(many["paths"]) == 256
    assert len(many["unparseable"]["path"]) == 5000 - 256
    long = parsed({"a": ["ls " + "x" * 8000] * 10}, {"shell": None})
    assert 0 < len(long["shell"]) < 6
    assert "too long together" in long["unparseable"]["shell"]["/a/9"]


HOSTILE = [
    "(" * 1_000_000,
    "$(" * 500_000,
    "a\n" * 500_000,
    "/" * 1_000_000,
    "http://" + "a." * 500_000,
    "'" * 999_999,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_megabyte_is_unparseable_at_once(text: str) -> None:
    found = parsed({"a": text})
    assert all(not found[place] for place in PARSED_PLACES.values())


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(max_size=40)
    | st.text(alphabet="/.~\0ab \\'\"$`;|&()<>@:[]%*#\n", max_size=40)
    | st.from_regex(r"https?://[a-zA-Z0-9.@:%\[\]/\\é-]{0,30}", fullmatch=True)
)
def test_each_text_has_a_form_of_each_kind_or_a_reason(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    found = parsed({"a": text}, cwd="/srv")
    NormalisedPart.model_validate(found)
    for kind, place in PARSED_PLACES.items():
        assert ("/a" in found[place]) != ("/a" in found.get("unparseable", {}).get(kind, {}))


@settings(max_examples=100, deadline=None)
@given(
    read=st.dictionaries(
        st.sampled_from(PARSED_KINDS), st.none() | st.frozensets(st.sampled_from(["/a", "/b/0", "/c"]))
    ),
    texts=st.lists(st.sampled_from(["/x", "ls", "select 1", "http://a/", "'", ""]), min_size=2, max_size=2),
)
def test_what_was_not_read_can_be_told_from_the_record(
    read: dict[str, frozenset[str] | None], texts: list[str]
) -> None:
    args: JSON = {"a": texts[0], "b": [texts[1]], "n": 5}
    left_out = set(unrecorded(args, parsed(args, read)))
    for kind, place in PARSED_PLACES.items():
        for pointer in ("/a", "/b/0"):
            was_read = kind in read and (read[kind] is None or pointer in read[kind])  # type: ignore[operator]
            assert was_read is not bool({(place,), (place, pointer)} & left_out)


def test_nothing_is_left_out_of_what_was_computed_whole() -> None:
    args: JSON = {"a": "ls; rm", "b": ["x", 1], "c": {"d": "~/x"}}
    assert list(unrecorded(args, parsed(args))) == []
    assert list(unrecorded(args, {})) == [(place,) for place in PARSED_PLACES.values()]
