"""The record: what was decided, asked, claimed and done, in one file that shows who was faster."""

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
)

__all__ = ["ClaimState", "Claimed", "Event", "Ledger", "Outcome", "Past", "Recorded", "Stop", "StopScope"]
