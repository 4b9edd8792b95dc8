from __future__ import annotations

import os
import time
from typing import Any

import pytest

from fumehood.cli import output


def test_columns_line_up_by_what_a_terminal_shows(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("A", "B", "C"), [("日本", "x", "one"), ("e\u0301", "yy", "two")])
    assert capsys.readouterr().out.splitlines() == ["A     B   C", "日本  x   one", "e\u0301     yy  two"]


@pytest.mark.parametrize("cell", ["x" * 300, "日" * 300, "a日" * 100])
def test_last_column_fits_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cell: str
) -> None:
    monkeypatch.setattr(output, "_room", lambda: 80)
    output.print_table(("ID", "WHY"), [("abc", cell)])
    last = capsys.readouterr().out.splitlines()[1]
    assert 76 <= output._width(last) <= 80
    assert last.endswith("…")


def test_room_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "97")
    monkeypatch.setattr("sys.stdout", Terminal())
    assert output._room() == 97


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (7200, "2 h"), (86400 * 3, "3 d"), (-30, "30 s")],
)
def test_ages_have_one_unit(seconds: float, words: str) -> None:
    assert output.ago(1000.0, now=1000.0 + seconds) == words


def test_clock_has_the_date_when_it_is_not_today() -> None:
    assert len(output.clock(time.time())) == 8
    assert output.clock(0).startswith("19")


def test_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(uid: int) -> Any:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", missing)
    assert output.user_name() == str(os.getuid())
