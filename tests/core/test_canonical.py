"""The one canonical form: what survives, what is refused, and that both readers agree (traps 8, 14)."""

from __future__ import annotations

import json
import math

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from fumehood.canonical import MAX_DEPTH, at, canonical, keyed_digest, leaves, parse
from fumehood.errors import BindError

text = st.text(st.characters(exclude_categories=("Cs",)))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.floats(-(2**52), 2**52) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(json_values)
def test_canonical_form_reads_back_equal_and_is_its_own_canonical_form(value: object) -> None:
    once = canonical(value)
    assert parse(once) == value
    assert canonical(parse(once)) == once == rfc8785.dumps(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"a": [1, math.nan]}, "/a/1"),
        ({"a": math.inf}, "/a"),
        ({"a": 2**53}, "/a"),
        ({"a": 10**400}, "/a"),  # too large for a float
        ({"a": 10**5000}, "/a"),  # and for a text
        ({"a": 1e17}, "/a"),
        ({"a": -(2**53)}, "/a"),
        ({"a/b": {1: 2}}, "/a~1b"),
        ({"a": "\ud800"}, "/a"),
        ({"\udfff": 1}, ""),
        ({"a": {"b": object()}}, "/a/b"),
        ({"a": (1, 2)}, "/a"),
        ({"a": b"x"}, "/a"),
    ],
)
def test_what_json_cannot_carry_is_refused_with_its_place(value: object, pointer: str) -> None:
    with pytest.raises(BindError) as refused:
        canonical(value)
    assert refused.value.pointer == pointer


def test_nesting_is_bounded() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH + 2):
        value = [value]
    with pytest.raises(BindError, match="nested deeper"):
        canonical(value)


@pytest.mark.parametrize("bad", ['{"a":1,"a":2}', "NaN", '{"a":Infinity}', "[1,", "", "[" * 100_000])
def test_json_that_readers_would_read_differently_is_refused(bad: str) -> None:
    with pytest.raises(BindError):
        parse(bad)


@given(json_values)
def test_every_leaf_is_found_at_its_pointer(value: object) -> None:
    document = json.loads(json.dumps(value))
    for pointer, leaf in leaves(document):
        assert at(document, pointer) == leaf


def test_keyed_digest_depends_on_the_key() -> None:
    assert keyed_digest(b"a", {"n": 1}) != keyed_digest(b"b", {"n": 1})
