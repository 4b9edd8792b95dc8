"""Fixtures for the terminal UI: a clock that stands still, an app over the ledger in memory."""

from __future__ import annotations

import time as clock
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual import events
from textual.keys import _character_to_key
from textual.pilot import Pilot

from fumehood_tui.app import FumehoodApp
from fumehood_tui.fullview import FullView, Reader
from fumehood_tui.store import Store
from tui.fake import NOW, FakeLedger


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day are the same everywhere."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        patch.delenv("NO_COLOR", raising=False)
        clock.tzset()
        yield
    clock.tzset()


class Hands:
    """A running app, its ledger, and a monotonic clock that only the test moves."""

    def __init__(self, ledger: FakeLedger, path: Path) -> None:
        self.ledger = ledger
        self.path = path
        self.seconds = 1000.0
        self.now = NOW
        self.store = Store(path, lambda _: ledger.as_ledger(), by="carol", clock=lambda: self.now)
        self.app: FumehoodApp
        self.pilot: Pilot[None]

    def later(self, seconds: float) -> None:
        self.seconds += seconds
        self.now += seconds

    async def until(self, is_true: Callable[[], object], /) -> None:
        """Wait until *is_true*; fails after a generous time instead of hanging."""
        deadline = clock.monotonic() + 30
        while clock.monotonic() < deadline:
            await self.pilot.pause(0.01)
            if is_true():
                await self.pilot.pause(0)
                return
        raise AssertionError(f"never came true; the screen was:\n{self.screen()}")

    async def press(self, *keys: str) -> None:
        """Press *keys*, each handled before the next; Pilot would wait for an idle processor."""
        for key in keys:
            name = _character_to_key(key) if len(key) == 1 else key
            self.app._driver.send_message(events.Key(name, key if len(key) == 1 else None))
            for _ in range(2):
                await self.pilot.pause(0)
        await self.pilot.pause(0)

    async def ready(self) -> None:
        """All that was given has been read and drawn, and the settling time is over."""
        wanted = sum(a.state == "pending" for a in self.ledger.rows.values())
        await self.until(lambda: len(self.app._latest.requests) == wanted)
        if wanted:
            await self.until(lambda: self.app.main.query_one("#detail").is_laid)
        self.later(1)

    def is_view_laid(self) -> bool:
        """The full view is open and its document laid out."""
        screen = self.app.screen
        return (
            isinstance(screen, FullView)
            and bool(screen.query("#reader"))
            and screen.query_one(Reader).is_laid
        )

    def screen(self) -> str:
        """What is on the terminal, as text."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)

    @property
    def selected(self) -> str | None:
        request = self.app.main.selected
        return request.key.id if request else None

    @property
    def said(self) -> str:
        return self.app.main.query_one("#bar").said


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`async with run(ledger, size=…) as hands`: the app on a ledger whose file exists."""

    @asynccontextmanager
    async def running(
        ledger: FakeLedger | None = None,
        /,
        *,
        size: tuple[int, int] = (80, 24),
        exists: bool = True,
        **options,
    ) -> AsyncIterator[Hands]:
        monkeypatch.chdir(tmp_path)
        path = Path("ledger.db")
        if exists:
            path.touch()
        hands = Hands(ledger or FakeLedger(), path)
        hands.app = FumehoodApp(
            hands.store, clock=lambda: hands.now, monotonic=lambda: hands.seconds, **options
        )
        async with hands.app.run_test(size=size) as hands.pilot:
            await hands.until(lambda: hands.app.main.is_mounted)
            if exists:
                await hands.ready()
            yield hands
        hands.store.close()

    return running
