"""Control sequences in what a job says: none is left, however it comes, and the rest is untouched."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fumehood import confine
from fumehood.confine.output import Stripper, stripped

#: What sequences are made of, and what they may be mistaken for.
_PARTS = [b"\x1b", b"[", b"]", b"P", b"X", b"^", b"_", b"\\", b"\x07", b"\x18", b"(", b"0", b";", b"?", b" "]
_PARTS += [
    b"m",
    b"a",
    b"\n",
    b"\t",
    b"\r",
    b"\0",
    b"\x7f",
    b"\xc2",
    b"\x9b",
    b"\x9c",
    b"\x9d",
    b"\x90",
    b"\x80",
]
_PARTS += [b"\xa0", b"\xc3", b"\xe2", b"\xed", b"\xf0", b"\xf4", b"\xff", "é✛😀".encode(), "\x9b".encode()]
_PARTS += [b"0" * 257, b" " * 17, b"a" * 4096, b"\xc2" * 4095]
outputs = st.one_of(st.lists(st.sampled_from(_PARTS), max_size=24).map(b"".join), st.binary(max_size=60))


def in_pieces(body: bytes, cuts: list[int]) -> bytes:
    stripper, start, shown = Stripper(), 0, b""
    for cut in [*sorted(min(cut, len(body)) for cut in cuts), len(body)]:
        shown += stripper.feed(body[start:cut])
        assert len(stripper._rest) <= 4100
        start = cut
    return shown + stripper.end()


def left_over(body: bytes) -> list[str]:
    """What a terminal acts on, be it of UTF-8 or of an 8-bit set."""
    text = body.decode(errors="surrogateescape")
    return [
        c
        for c in text
        if (unicodedata.category(c) == "Cc" and c not in "\t\n\r") or "\udc80" <= c <= "\udc9f"
    ]


@given(outputs, st.lists(st.integers(0, 80), max_size=12))
@example(b"\x1b]0;title\x1b\\after", [9, 10])
@example(b"\x1b\x1b[31m", [1, 2])
@example("\x9d0;title\x9cafter".encode(), [1, 10, 11])
@example(b"\xe2\x9c\x9b", [1, 2])
@example(b"\x1b]" + b"a" * 4097 + b"\x07", [4090])
def test_how_a_stream_is_cut_makes_no_difference(body: bytes, cuts: list[int]) -> None:
    assert in_pieces(body, cuts) == stripped(body)
    assert in_pieces(body, list(range(min(len(body), 200)))) == stripped(body)


@given(outputs)
@example(b"\xc2\x00\x9b31m")  # a control sequence once the zero byte is gone
@example(b"\xc2\x1b[m\x9d0;title\x07")
@example(b"\x1b\x1b[m[31m")
@example(b"\x1b]a\x1b]b\x1b[31mc\x1b\\")
def test_nothing_is_left_that_a_terminal_acts_on(body: bytes) -> None:
    shown = stripped(body)
    assert left_over(shown) == []
    assert stripped(shown) == shown


@given(
    st.text().map(
        lambda text: "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs") or c in "\t\n\r")
    )
)
@example("colour, Größe, 漢字, 😀, ✛, \xa0, \u202e, \U0010ffff\r\n\t")
def test_text_is_untouched(text: str) -> None:
    assert stripped(text.encode()) == text.encode()


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"\x1b[31mred\x1b[0m\n", b"red\n"),
        (b"\x1b[?25l\x1b[2J\x1b[1;1Hx\x1b[?1049h", b"x"),
        (b"\x1b[4:3mx\x1b[ q\x1b[!p", b"x"),
        (b"\x1b]0;title\x07x", b"x"),
        (b"\x1b]8;;https://example.org/\x1b\\link\x1b]8;;\x1b\\", b"link"),
        (b"\x1b]52;c;aGk=\xc2\x9cx", b"x"),
        (b"\x1bP1$r0m\x1b\\x", b"x"),
        (b"\x1b_apc\x07\x1b^pm\x1b\\\x1bXsos\x1b\\x", b"x"),
        (b"\x1b(B\x1b)0\x1b#8\x1b7\x1bc\x1b=x", b"x"),
        (b"\xc2\x9b31mx\xc2\x85y\xc2\x90dcs\xc2\x9cz", b"xyz"),
        (b"50%\x08\x08\x0851%\x0b\x0c\x0e\x0f\x7f\x05\r\n", b"50%51%\r\n"),
        (b"a\x1b", b"a"),
        (b"a\x1b[", b"a"),
        (b"a\x1b[31", b"a31"),
        (b"a\x1b]0;no end", b"a0;no end"),
        (b"\x1b]0;cut\x1b[31mx", b"0;cutx"),
        (b"\x1b]0;cut\x18x", b"0;cutx"),
        (b"\x9b31m\x85\x9c", b"31m"),
        (b"\xff\xfe\xe2\xa0", b"\xff\xfe\xe2\xa0"),
        ("✛\u2028".encode(), "✛\u2028".encode()),
    ],
)
def test_every_kind_of_sequence_goes(body: bytes, shown: bytes) -> None:
    assert stripped(body) == shown
    assert in_pieces(body, list(range(len(body)))) == shown


HOSTILE = {
    "escapes": b"\x1b",
    "sequences without an end": b"\x1b[",
    "long sequences without an end": b"\x1b[" + b"0" * 255,
    "strings without an end": b"\x1b]",
    "long strings without an end": b"\x1b]" + b"a" * 4095,
    "8-bit strings without an end": b"\xc2\x9d",
    "long 8-bit strings without an end": b"\xc2\x9d" + b"\xc2" * 4000,
    "many spaces": b"\x1b" + b" " * 16,
    "cut characters": b"\xe2",
    "zero bytes": b"\0",
}


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_hostile_output_takes_no_longer_than_its_length(unit: bytes) -> None:
    """A mebibyte takes a third of a second at most; squared, it would be minutes."""
    body = (unit * (1 + (1 << 20) // len(unit)))[: 1 << 20]
    began = time.process_time()
    shown = stripped(body)
    assert in_pieces(body, list(range(0, len(body), 24_000))) == shown
    few = body[:20_000]
    assert in_pieces(few, list(range(len(few)))) == stripped(few)
    assert time.process_time() - began < 8


def test_a_job_s_output_is_told_and_answered_without_sequences(tier: str) -> None:
    source = r"""
import os, time
for part in (b"\x1b[3", b"1mred \xe2", b"\x9c\x9b\x1b]0;ti", b"tle\x1b", b"\\\x1b[0", b"m\n\x1b["):
    os.write(1, part)
    os.write(2, b"\x07" + part)
    time.sleep(0.02)
"""
    told = {"stdout": b"", "stderr": b""}

    def tell(name: str, piece: bytes) -> None:
        assert left_over(piece) == []
        told[name] += piece

    outcome = confine.python(source, tier=tier, strip_ansi=True, on_output=tell)
    assert outcome.stdout == told["stdout"] == "red ✛\n".encode()
    assert outcome.stderr == told["stderr"]
    assert left_over(outcome.stderr) == []
    assert confine.python(source, tier=tier, strip_ansi=True).stdout == outcome.stdout
    assert b"\x1b[31mred" in confine.python(source, tier=tier).stdout
