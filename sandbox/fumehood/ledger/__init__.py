"""The record: what was decided, asked, claimed and done, in one file that shows who was faster."""

from fumehood.ledger.ancestry import this_process
from fumehood.ledger.files import default_path
from fumehood.ledger.opening import open_ledger
from fumehood.ledger.protocol import (
    Claimed,
    ClaimState,
    Event,
    Ledger,
    Outcome,
    Past,
    Recorded,
    Stop,
    StopScope,
    Writer,
)

__all__ = [
    "ClaimState",
    "Claimed",
    "Event",
    "Ledger",
    "Outcome",
    "Past",
    "Recorded",
    "Stop",
    "StopScope",
    "Writer",
    "default_path",
    "open_ledger",
    "this_process",
]
