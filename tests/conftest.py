"""Shared fixtures. Every test has an XDG state and runtime folder of its own."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

#: Where a run decides about a change, its examples are the same each time; everywhere else they are new ones,
#: and a failure prints what repeats it. How long an example takes is never a reason to fail.
settings.register_profile(
    "fumehood",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=60,
    derandomize=bool(os.environ.get("FUMEHOOD_CI_PROMISES")),
    print_blob=True,
)
settings.load_profile("fumehood")


def pytest_collection_finish() -> None:
    """The tests themselves, some ten thousand with what they import, are no garbage: never look again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def private_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Short socket paths (a Unix socket's path ends at 107 bytes) and no shared state."""
    with tempfile.TemporaryDirectory(prefix="fh-") as runtime:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        monkeypatch.delenv("FUMEHOOD_LEDGER", raising=False)
        yield
