"""Shared fixtures. Every test has an XDG state and runtime folder of its own."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "fumehood", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60
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
