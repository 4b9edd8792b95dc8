"""How many rows a second the trace takes, beside textual's own log; prints JSON and judges nothing.

`python -m pytest tests/tui/test_tail_speed.py -s` shows the numbers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from textual.app import App, ComposeResult
from textual.widget import Widget
from textual.widgets import RichLog

from fumehood_tui.trace import Trace
from fumehood_tui.view import row_from
from tui.fake import event

ROWS = 1000
BATCH = 100  # 2,000 events a second at 20 readings a second


class Bench(App[None]):
    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self._widget = widget

    def compose(self) -> ComposeResult:
        yield self._widget


async def measured(widget: Widget, add: Callable[[int], None]) -> float:
    """Rows per second, drawn after every batch."""
    async with Bench(widget).run_test(size=(120, 40)) as pilot:
        begin = time.perf_counter()
        for start in range(0, ROWS, BATCH):
            add(start)
            await pilot.pause(0)
        return ROWS / (time.perf_counter() - begin)


async def test_the_trace_takes_rows_faster_than_a_log_of_widgets() -> None:
    rows = [row_from(event(n + 1)) for n in range(ROWS)]
    trace, log = Trace(id="trace"), RichLog(id="log")

    def write(start: int) -> None:
        for row in rows[start : start + BATCH]:
            log.write(f"{row.at} {row.agent} {row.tool} {row.effect} {row.summary}")

    result = {
        "trace_rows_per_s": round(await measured(trace, lambda n: trace.append(rows[n : n + BATCH]))),
        "rich_log_rows_per_s": round(await measured(log, write)),
    }
    print(json.dumps(result))
    assert trace.latest is not None
    assert trace.latest.seq == ROWS
