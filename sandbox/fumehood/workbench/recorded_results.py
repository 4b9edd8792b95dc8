"""What the record holds of a result: the policy input of phase `return_result`, as far as it is there.

The input itself is not recorded, but all that it is made of may be: the input of the call, what the agent got
(not if it was withheld, raised, larger than 64 KiB, of a kind that a replay could not make again, or secret),
and when it was decided about. What policies or the ledger took out of it is missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fumehood import release
from fumehood.ledger import Event, names
from fumehood.ledger.protocol import ClaimState
from fumehood.model import Phase
from fumehood.workbench.reads import Path, marked_in

__all__ = ["RESULT", "TIME", "Recorded", "is_unasked", "recorded_result"]

RESULT: Path = ("action", "properties", "result")
TIME: Path = ("context", "time")
_NOBODY_ASKED = f'"{names.JUDGED}":null}}'.encode()
_ENDED = (ClaimState.DONE.value, ClaimState.FAILED.value)


@dataclass(frozen=True, slots=True)
class Recorded:
    """`said` is what policies decided, None if no rule could apply; `missing` is not as it was then."""

    content: dict[str, Any]
    said: Mapping[str, Any] | None
    missing: frozenset[Path]

    @property
    def body(self) -> bytes:
        """The policy input as JSON."""
        return json.dumps(self.content, ensure_ascii=False, separators=(",", ":")).encode()


def is_unasked(event: Event) -> bool:
    """True if an outcome says of itself that no rule could apply: the last thing that is written of it."""
    return event.attributes.endswith(_NOBODY_ASKED)


def recorded_result(attributes: Mapping[str, Any], document: bytes) -> Recorded | None:
    """The result of an outcome with these attributes; None if it was never decided about.

    *document* is the recorded policy input of the call. Raises ValueError, KeyError, TypeError or
    AttributeError: this is no outcome.
    """
    state = attributes[names.CLAIM_STATE]
    if state not in _ENDED or names.JUDGED not in attributes:
        return None
    said = attributes.get(names.OBSERVED) or attributes[names.JUDGED]
    asked = json.loads(document)
    properties = {
        k: v for k, v in asked["action"]["properties"].items() if k in ("args", "digest", "call_id")
    }
    properties["is_error"] = state == ClaimState.FAILED.value
    missing: set[Path] = set()
    if names.RESULT in attributes:
        properties["result"] = attributes[names.RESULT]
        if any(
            o.get("type") == "redact" for o in (attributes[names.JUDGED] or {}).get(names.OBLIGATIONS, ())
        ):
            missing |= set(marked_in(properties["result"], RESULT, release.MARK))
    else:
        missing.add(RESULT)
    if names.JUDGED_AT not in attributes:
        missing.add(TIME)
    content = {
        "subject": asked["subject"],
        "action": {"name": Phase.RETURN_RESULT.value, "properties": properties},
        "resource": asked["resource"],
        "context": {"time": _time(attributes, asked), "session": asked["context"]["session"]},
    }
    return Recorded(content, said, frozenset(missing))


def _time(attributes: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    at = attributes.get(names.JUDGED_AT)
    if at is None:
        return str(asked["context"]["time"])
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
