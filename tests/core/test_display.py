"""Nothing that a terminal would act on, reorder or hide comes through."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fumehood.display import clip, inert, pretty

HOSTILE = {
    "escape": "\x1b[2J\x1b]0;owned\x07",
    "c1": "\x9b31m",
    "bidi": "\u202egpj.exe\u2066x\u2069",
    "zero width": "pay\u200bpal\u2060\ufeff",
    "tag": "\U000e0041",
    "line separator": "a\u2028b\u2029c",
    "carriage return": "safe\rEVIL",
    "delete": "a\x7f\x08",
    "blank letter": "\u3164\u2800\uffa0",
    "variation": "a\ufe0f\U000e0101",
    "odd space": "a\u00a0b\u2003c",
    "private": "\ue000",
    "surrogate": "\ud800",
    "stacked marks": "z" + "\u0301" * 40,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_spelt_out(name: str) -> None:
    shown = inert(HOSTILE[name])
    assert "⟨U+" in shown
    assert not any(
        c in shown for c in HOSTILE[name] if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    )


@given(st.text())
def test_no_control_format_or_separator_survives(text: str) -> None:
    for char in inert(text):
        assert unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.text())
def test_making_inert_twice_changes_nothing(text: str) -> None:
    assert inert(inert(text)) == inert(text)


@given(st.text())
def test_lines_stay_lines_only_where_asked(text: str) -> None:
    assert "\n" not in inert(text)
    assert set(inert(text, multiline=True)) & {"\t", "\r", "\x0b", "\x0c", "\x85"} == set()


def test_plain_words_of_every_script_stay_readable() -> None:
    assert inert("Grüße, 日本語, עברית, русский, 😀") == "Grüße, 日本語, עברית, русский, 😀"


def test_clipping_says_how_much_is_missing() -> None:
    assert clip("abcdef", 4) == "abcd… (+2 characters)"


def test_pretty_json_is_inert() -> None:
    assert pretty(b'{"a":"\\u001b[31m\\u202e"}') == '{\n  "a": "\\u001b[31m⟨U+202E⟩"\n}'
