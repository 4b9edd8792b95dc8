"""Moments that go wrong once in a thousand, made to happen every time."""

from __future__ import annotations

import pytest

from fumehood import confine
from fumehood.confine import prepare


def test_what_a_job_is_made_from_stays_open_until_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that make the same one at once keep only one of both in the cache."""
    monkeypatch.setattr(prepare, "_kind", prepare._kind.__wrapped__)
    for _ in range(3):
        assert confine.python("print(1)", tier="no-userns").stdout == b"1\n"
