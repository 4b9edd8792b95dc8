"""Policy input documents for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping

from fumehood.canonical import JSON
from fumehood.model import Phase, PolicyInput

TIME = "2026-01-01T00:00:00.000Z"


def document(
    tool: str = "read",
    args: Mapping[str, JSON] | None = None,
    *,
    phase: Phase = Phase.EXECUTE_TOOL,
    origins: Mapping[str, str] | None = None,
    result: JSON = None,
    **context: JSON,
) -> dict[str, JSON]:
    """One document as the guard writes it."""
    properties: dict[str, JSON] = {"args": dict(args or {}), "digest": "hmac-sha256:0"}
    if phase is Phase.RETURN_RESULT:
        properties |= {"result": result, "is_error": False}
    found: dict[str, JSON] = {
        pointer: [{"origin": origin, "source": "test"}] for pointer, origin in (origins or {}).items()
    }
    return {
        "subject": {"type": "agent", "id": "bot", "properties": {"roles": []}},
        "action": {"name": phase.value, "properties": properties},
        "resource": {"type": "tool", "id": tool, "properties": {"runs": "in_process", "annotations": {}}},
        "context": {"time": TIME, "session": {"id": "s-1"}, "provenance": {"args": found}, **context},
    }


def asked(tool: str = "read", args: Mapping[str, JSON] | None = None, **more: object) -> PolicyInput:
    """The same, ready for a PDP."""
    return as_input(document(tool, args, **more))  # type: ignore[arg-type]


def as_input(content: Mapping[str, JSON]) -> PolicyInput:
    """For a document that is damaged: the tool that was meant does not matter then."""
    phase = Phase(content["action"]["name"])  # type: ignore[index,call-overload]
    resource = content.get("resource")
    tool = str(resource.get("id")) if isinstance(resource, dict) else ""
    return PolicyInput(phase, tool, json.dumps(content, ensure_ascii=False).encode())
