from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ledger.samples import SESSION

from fumehood.cli import main
from fumehood.ledger import open_ledger
from fumehood.ledger.sqlite import SqliteLedger


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Shell = Callable[..., Ran]


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SqliteLedger]:
    """The ledger that the commands find by $FUMEHOOD_LEDGER."""
    path = tmp_path / "l.db"
    monkeypatch.setenv("FUMEHOOD_LEDGER", str(path))
    opened = open_ledger(path)
    opened.open_session(SESSION)
    yield opened
    opened.close()


@pytest.fixture
def fumehood(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """Runs one command in this process, with a stdin that is no terminal."""

    def run(*args: object) -> Ran:
        with pytest.raises(SystemExit) as caught:
            main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return Ran(int(caught.value.code or 0), out, err)

    with open("/dev/null") as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        yield run
