"""YAML by hand: what is read, where each part stands, and what is refused with its place."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fumehood.workbench.located import YamlProblem, read_yaml

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(), v, max_size=4))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: no", {"a": "no"}),
        ("a: on", {"a": "on"}),
        ("a: 2026-01-01T00:00:00Z", {"a": "2026-01-01T00:00:00Z"}),
        ("a: 1:30", {"a": "1:30"}),
        ("a: 0o17", {"a": "0o17"}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: 007", {"a": 7}),
        ("a: -3", {"a": -3}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: true", {"a": True}),
        ('a: "true"', {"a": "true"}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("1: x", {"1": "x"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("", None),
    ],
)
def test_scalars_are_those_of_the_core_schema(text: str, value: object) -> None:
    found = read_yaml(text, "f").value
    assert found == value
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("a: 1\na: 2", 2, 1, "'a' for the second time"),
        ("a: &x 1\nb: *x", 1, 4, "anchor"),
        ("b: !!python/object:os.system x", 1, 4, "tag"),
        ("a: .nan", 1, 4, "JSON does not have"),
        ("a: 1e999", 1, 4, "JSON does not have"),
        ("a: 1\n---\nb: 2", 2, 1, "second document"),
        ("[1]: 2", 1, 1, "not a plain text"),
        ("a: [1, 2\nb: 3", 2, 2, "not YAML"),
        ("a: '", 1, 5, "not YAML"),
        ("x:\n  - a\n - b", 3, 2, "not YAML"),
        ("a: \x00", 1, 1, "not YAML"),
    ],
)
def test_what_is_not_plain_is_refused_with_its_place(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(YamlProblem, match=says) as caught:
        read_yaml(text, "f.yaml")
    problem = caught.value.problem
    assert (problem.file, problem.line) == ("f.yaml", line)
    if says != "not YAML":
        assert problem.column == column


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "a: " * 50_000, "- " * 50_000, "{a: " * 20_000, "? " * 30_000]
)
def test_deep_text_is_refused_and_hurts_nobody(text: str) -> None:
    with pytest.raises(YamlProblem):
        read_yaml(text, "f")


def test_text_that_would_double_itself_is_refused_at_its_first_anchor() -> None:
    bomb = "a: &a [x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    with pytest.raises(YamlProblem, match="anchor"):
        read_yaml(bomb, "f")


def test_each_part_has_its_place_and_what_is_missing_has_its_parents() -> None:
    located = read_yaml("cases:\n  - name: x\n    input:\n      args: {a: 1}\n", "f")
    assert located.problem(("cases", 0, "input", "args", "a"), "m").line == 4
    assert located.problem(("cases", 0, "expect"), "m")[:3] == ("f", 2, 5)
    assert located.problem((), "m").line == 1


@given(VALUES)
def test_json_is_yaml(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        assert read_yaml(text, "f").value == value


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        json.dumps(read_yaml(text, "f").value, allow_nan=False)
    except YamlProblem as refused:
        assert refused.problem.line >= 1
