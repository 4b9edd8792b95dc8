"""The one place that knows the logging library. Logs go to stderr and hold only inert text."""

from __future__ import annotations

import sys
from typing import cast

import structlog

from fumehood.display import clip, inert

__all__ = ["Logger", "logger"]

Logger = structlog.typing.FilteringBoundLogger


def logger() -> Logger:
    """A logger of our own: it neither reads nor changes the application's structlog configuration."""
    return cast(
        "Logger",
        structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _make_inert,
                structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(20),
        ),
    )


def _make_inert(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {
        key: clip(inert(value), 2000) if isinstance(value, str) else value for key, value in event.items()
    }
