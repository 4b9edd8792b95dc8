"""View values, words, documents and the backstop: everything pure that stands before the screen."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from fumehood.approval import State
from fumehood.canonical import canonical
from fumehood.display import inert
from fumehood.model import Approve, Risk
from fumehood_tui.backstop import Backstop, harmless
from fumehood_tui.document import LABEL, Document, Line, Role, event_document, laid, request_document
from fumehood_tui.glyphs import ASCII, UNICODE
from fumehood_tui.view import request_from, short_ids, what_became
from fumehood_tui.words import age, chopped, fitted, rate, time_left
from tui.fake import NOW, approval, event

HOSTILE = "\x1b]0;owned\x07\x9b31m\u202e\u200b\ufeff[red]x[/red]\r\n\x00"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0:00"), (0, "0:00"), (42.9, "0:42"), (723, "12:03"), (3720, "1h02"), (40_000, "11h"), (3e5, "3d")],
)
def test_an_age_has_at_most_five_cells(seconds: float, words: str) -> None:
    assert age(seconds) == words


def test_time_left_says_over_and_waits() -> None:
    assert (time_left(NOW + 18, NOW), time_left(NOW, NOW), time_left(None, NOW)) == ("0:18", "over", "waits")


def test_a_rate_is_short() -> None:
    assert [rate(x) for x in (0, 0.44, 12.3, 1900)] == ["0 ev/s", "0.4 ev/s", "12 ev/s", "1.9k ev/s"]


@given(ANY_TEXT.map(inert).map(UNICODE.plain), st.integers(1, 40))
def test_fitted_fills_its_width_exactly(text: str, width: int) -> None:
    assert cell_len(fitted(text, width)) == width


@given(ANY_TEXT.map(inert).map(UNICODE.plain), st.integers(2, 40))
def test_chopped_loses_nothing(text: str, width: int) -> None:
    pieces = chopped(text, width)
    assert "".join(pieces) == text
    assert all(cell_len(piece) <= width for piece in pieces)


@given(st.sets(st.text("0123456789abcdef", min_size=6, max_size=12), min_size=1, max_size=30))
def test_short_ids_tell_requests_apart(ids: set[str]) -> None:
    shorts = short_ids(list(ids))
    assert all(id.startswith(short) and len(short) >= 4 for id, short in shorts.items())
    whole = {id for id, short in shorts.items() if short == id}
    assert all(not other.startswith(short) for id, short in shorts.items() for other in ids - {id} - whole)


def test_a_request_keeps_the_key_that_a_verdict_needs() -> None:
    request = request_from(approval("7f3a91c2"), "7f3a")
    assert (request.key.id, request.key.revision, request.key.digest) == (
        "7f3a91c2",
        1,
        "hmac-sha256:" + "7f3a91c2" * 8,
    )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State.DENIED, "was denied by bob: no"),
        (State.APPROVED, "was approved by bob"),
        (State.CLAIMED, "was approved by bob"),
        (State.EXPIRED, "expired"),
        (State.CANCELLED, "cancelled"),
        (State.SUPERSEDED, "newer"),
        (State.PENDING, "still waits"),
    ],
)
def test_expired_is_never_called_denied(state: State, words: str) -> None:
    said = what_became(approval(state=state, decided_by="bob", note="no"))
    assert words in said
    assert ("denied" in said) is (state is State.DENIED)


# documents


def test_the_document_shows_rules_reasons_arguments_injected_names_digest_and_policy() -> None:
    many = (Approve("one reason", Risk.LOW, controls=("ASI02",)), Approve("another", Risk.HIGH))
    document = request_document(approval(reasons=many, injected=("state", "runtime")))
    text = "\n".join(f"{line.label} {line.text}" for line in (*document.lines, *document.more))
    for wanted in ("one reason [ASI02]", "another", "policies.refunds.approve", "support-bot for alice"):
        assert wanted in text
    assert "state, runtime (by the framework, not bound" in text
    assert '"amount_usd": 500' in text
    assert "d" * 64 in text
    assert "sha256:" + "9" * 64 in text
    assert document.bound == "digest 7f3a91c2 policy 99999999"


def test_arguments_that_cannot_be_read_are_a_problem_and_not_empty() -> None:
    for args in (b"", b"{", b"\xff", b'{"a":1,"a":2}', b"[" * 2000):
        document = request_document(approval(args=args))
        assert "cannot be approved" in document.problem
        assert any("cannot be shown" in line.text for line in document.lines)


def test_a_broken_value_goes_on_behind_a_mark_so_that_padding_is_no_new_line() -> None:
    document = request_document(approval(args=canonical({"cmd": "ls" + " " * 30 + '"amount_usd": 1,'})))
    lines = [line.text for line in laid(document, 30, UNICODE) if line.role is Role.VALUE]
    assert lines[0] == "{"
    assert all(text.startswith("↪ ") for text in lines[2:-1])


@given(ANY_TEXT, st.integers(16, 60))
def test_laying_out_loses_nothing_and_fits(text: str, width: int) -> None:
    for role in (Role.VALUE, Role.PLAIN):
        document = Document((Line("Why", inert(text), role),))
        lines = laid(document, width, UNICODE)
        room = width if role is Role.VALUE else width - LABEL
        assert all(cell_len(line.text.rstrip(" ")) <= room for line in lines)
        whole = lines[0].text + "".join(line.text.removeprefix("↪ ") for line in lines[1:])
        assert whole == UNICODE.plain(inert(text))


def test_a_megabyte_is_laid_out_whole() -> None:
    document = request_document(approval(args=canonical({"body": "x" * 1_000_000})))
    lines = laid(document, 76, UNICODE)
    assert sum(line.text.count("x") for line in lines if line.role is Role.VALUE) == 1_000_000


def test_an_event_is_shown_with_its_attributes() -> None:
    document = event_document(event(3, attributes=canonical({"error.type": HOSTILE})))
    text = "\n".join(line.text for line in document.lines)
    assert "error.type" in text
    assert inert(text, multiline=True) == text


# the backstop


@given(ANY_TEXT, st.booleans())
def test_the_backstop_keeps_widths_and_lets_nothing_hidden_pass(text: str, is_ascii: bool) -> None:
    out = harmless(text, is_ascii=is_ascii)
    assert cell_len(out) == cell_len(text) or any(unicodedata.combining(c) for c in text)
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp"} for c in out)
    assert not is_ascii or out.isascii()


def test_the_backstop_takes_links_and_colours_out() -> None:
    style = Style(color="red", bold=True, link="https://evil.example", meta={"a": 1})
    [segment] = Backstop(is_colorless=True).apply([Segment("a\x1b[31mb", style)], Color(0, 0, 0))
    assert segment.text == "a[31mb"
    assert segment.style is not None
    assert (segment.style.link, segment.style.color, segment.style.bold) == (None, None, True)
    assert segment.style.meta == {"a": 1}


def test_ascii_spells_what_it_cannot_draw() -> None:
    assert ASCII.plain("⟨U+202E⟩ é…") == "<U+202E> <U+00E9>..."
    assert UNICODE.plain("é") == "é"


def test_what_terminals_count_differently_is_spelt_out() -> None:
    assert UNICODE.plain("👍\U0001f3fb") == "👍⟨U+1F3FB⟩"
    assert UNICODE.plain("\U0001f1e9\U0001f1ea") == "⟨U+1F1E9⟩⟨U+1F1EA⟩"
    assert UNICODE.plain("e\u0301 日本") == "e\u0301 日本"
