"""Times, rates and widths as short words. Pure; knows neither widgets nor the ledger."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.cells import cell_len, get_character_cell_size, set_cell_size

__all__ = ["age", "chopped", "fitted", "rate", "stamp", "time_left"]


def age(seconds: float) -> str:
    """A duration in seconds in at most five cells: `0:42`, `12:03`, `1h02`, `3d`."""
    whole = max(0, int(seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 36_000:
        return f"{whole // 3600}h{whole % 3600 // 60:02}"
    return f"{whole // 3600}h" if whole < 2 * 86_400 else f"{whole // 86_400}d"


def time_left(expires_at: float | None, now: float) -> str:
    """What is left until *expires_at* (Unix seconds): `0:18`, `over`, or `waits` where nothing expires."""
    if expires_at is None:
        return "waits"
    return age(expires_at - now) if expires_at > now else "over"


def rate(per_s: float) -> str:
    """Events per second: `0.4 ev/s`, `12 ev/s`, `1.9k ev/s`."""
    if per_s >= 1000:
        return f"{per_s / 1000:.1f}k ev/s"
    return f"{per_s:.0f} ev/s" if per_s >= 10 or per_s == 0 else f"{per_s:.1f} ev/s"


def stamp(at: float) -> str:
    """The local time of day of *at* (Unix seconds)."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S")


def fitted(text: str, width: int, more: str = "…") -> str:
    """*text* in exactly *width* cells; where it is cut the last cell is *more*."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + more


def chopped(text: str, width: int) -> list[str]:
    """*text* in pieces of at most *width* cells (two or more); never loses a character."""
    width = max(2, width)
    if text.isascii():
        return [text[i : i + width] for i in range(0, len(text), width)] or [""]
    pieces: list[str] = []
    begin = cells = 0
    for index, char in enumerate(text):
        size = get_character_cell_size(char)
        if cells + size > width:
            pieces.append(text[begin:index])
            begin, cells = index, 0
        cells += size
    return [*pieces, text[begin:]]
