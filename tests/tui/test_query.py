"""The filter's language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fumehood_tui.query import EVERYTHING, FilterError, parse
from fumehood_tui.view import request_from, row_from
from tui.fake import event, three

REQUESTS = [request_from(a, a.id[:4]) for a in three()]  # high, medium, low


def passing(text: str) -> str:
    query = parse(text)
    return " ".join(r.risk.value for r in REQUESTS if query.accepts_request(r))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "high medium low"),
        ("risk>=med", "high medium"),
        ("RISK>=MEDIUM", "high medium"),
        ("risk>med", "high"),
        ("risk<high", "medium low"),
        ("risk<=low", "low"),
        ("risk=high", "high"),
        ("risk:low", "low"),
        ("tool:http", "medium"),
        ("agent:SUPPORT", "high"),
        ("user:alice tool:sql", "low"),
        ("session:s-1", "medium"),
        ("id:7f", "high"),
        ("rule:ops", "high medium low"),
        ("rows", "low"),
        ("risk>=med agent:ops host", "medium"),
        ("risk>=med agent:nobody", ""),
        ("effect:deny", "high medium low"),
        ("a:b", ""),
    ],
)
def test_all_words_of_a_filter_must_hold(text: str, expected: str) -> None:
    assert passing(text) == expected


@pytest.mark.parametrize("text", ["risk>=huge", "risk:", "tool:", "agent: x"])
def test_a_filter_that_cannot_be_read_says_what_was_expected(text: str) -> None:
    with pytest.raises(FilterError, match=r"risk>=med|needs a value"):
        parse(text)


def test_the_trace_is_filtered_by_what_it_has() -> None:
    row = row_from(event(1, effect="deny", tool="http_get", agent="ops-bot"))
    for text in ("effect:deny", "tool:http", "agent:ops", "deny", "risk>=high", "user:alice", "id:7f3a"):
        assert parse(text).accepts_row(row), text
    for text in ("effect:permit", "tool:mail", "nothing"):
        assert not parse(text).accepts_row(row), text


@given(st.text())
def test_any_text_is_a_filter_or_a_filter_error(text: str) -> None:
    try:
        query = parse(text)
    except FilterError:
        return
    query.accepts_request(REQUESTS[0])
    assert query.terms or query == EVERYTHING
