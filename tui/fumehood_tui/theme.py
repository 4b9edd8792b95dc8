"""The colours, in one place; without them the screen says the same in words and signs."""

from __future__ import annotations

from textual.theme import Theme

__all__ = ["THEME"]

THEME = Theme(
    name="fumehood",
    primary="#4fb3bf",
    secondary="#8b9aa5",
    accent="#7fd1c7",
    foreground="#d7dde2",
    background="#0f1519",
    surface="#172027",
    panel="#1c2830",
    success="#7fc98f",
    warning="#e6b450",
    error="#f2707a",
    dark=True,
)
