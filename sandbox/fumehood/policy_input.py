"""Writes the policy input document (AuthZEN shape) for one phase of one call. Absent things are absent.

The arguments enter as the canonical bytes that were bound: what is decided is, byte for byte, what
is recorded and run. The shape is described in `docs/policies.md`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache

from fumehood.binding import as_json
from fumehood.canonical import JSON, MAX_DOCUMENT_BYTES
from fumehood.errors import PdpError
from fumehood.model import Phase, PolicyInput, Session, ToolCall, ToolDefinition

__all__ = ["execute_document", "result_document"]

# Made once: `json.dumps` with options would make an encoder for each call.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def execute_document(
    call: ToolCall,
    *,
    at: float,
    history: bytes | None,
    counters: bytes,
    provenance: JSON,
    normalised: JSON,
) -> PolicyInput:
    """The document for phase `execute_tool`. *at* is Unix seconds; *history* None: no rule reads it.

    Raises:
        PdpError: `pdp_input_too_large`, above 1 MiB.
    """
    extra = b',"counters":' + counters + b',"provenance":' + _json(provenance)
    extra += b',"normalised":' + _json(normalised)
    if history is not None:
        extra += b',"history":' + history
    return _document(Phase.EXECUTE_TOOL, call, at, b"", extra)


def result_document(call: ToolCall, view: JSON, *, at: float, is_error: bool) -> PolicyInput:
    """The document for phase `return_result`: `action.properties` has `result` and `is_error` as well.

    Raises:
        PdpError: `pdp_input_too_large`, above 1 MiB.
    """
    more = b',"is_error":' + (b"true" if is_error else b"false") + b',"result":' + _json(view)
    return _document(Phase.RETURN_RESULT, call, at, more, b"")


def _document(phase: Phase, call: ToolCall, at: float, more: bytes, context: bytes) -> PolicyInput:
    properties = b'{"args":' + call.args + b',"digest":' + _json(call.digest)
    if call.call_id is not None:
        properties += b',"call_id":' + _json(call.call_id)
    body = b"".join(
        (
            b'{"subject":',
            _subject(call.session),
            b',"action":{"name":',
            _json(phase.value),
            b',"properties":',
            properties,
            more,
            b'}},"resource":',
            _resource(call.tool),
            b',"context":{"time":',
            _json(_rfc3339(at)),
            b',"session":',
            _session(call.session),
            context,
            b"}}",
        )
    )
    if len(body) > MAX_DOCUMENT_BYTES:
        raise PdpError(
            f"the policy input has {len(body)} bytes; {MAX_DOCUMENT_BYTES} are allowed",
            code="pdp_input_too_large",
        )
    return PolicyInput(phase, call.tool.name, body)


@lru_cache(maxsize=1024)
def _subject(session: Session) -> bytes:
    who = session.subject
    properties: dict[str, JSON] = {"roles": list(who.roles)}
    if who.user is not None:
        properties["user"] = who.user
    return _json({"type": "agent", "id": who.id, "properties": properties})


@lru_cache(maxsize=1024)
def _resource(tool: ToolDefinition) -> bytes:
    properties: dict[str, JSON] = {
        "definition_digest": tool.digest,
        "runs": tool.runs.value,
        "annotations": as_json(tool.annotations),
    }
    return _json({"type": "tool", "id": tool.name, "properties": properties})


@lru_cache(maxsize=1024)
def _session(session: Session) -> bytes:
    said: dict[str, JSON] = {"id": session.id}
    if session.conversation_id is not None:
        said["conversation_id"] = session.conversation_id
    if session.prompt is not None:
        said["prompt"] = session.prompt
    return _json(said)


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(value: JSON) -> bytes:
    return _encode(value).encode()
