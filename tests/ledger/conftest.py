from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fumehood.ledger import open_ledger
from fumehood.ledger.sqlite import SqliteLedger
from ledger.samples import SESSION


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "l.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    opened = open_ledger(path)
    opened.open_session(SESSION)
    yield opened
    opened.close()
