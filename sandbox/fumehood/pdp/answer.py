"""Between an engine's text and a Decision: shared by the embedded engines."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import cast

from fumehood.canonical import JSON, MAX_DOCUMENT_BYTES
from fumehood.errors import PdpError
from fumehood.model import Decision, Phase, PolicyInput
from fumehood.pdp.combine import Answers, Found, combine
from fumehood.pdp.decision import decision_from
from fumehood.pdp.index import Index

__all__ = ["Ask", "check_size", "decide", "decided"]

Ask = Callable[[int], str | bytes]  # the number of an entry point → what it said


def check_size(document: PolicyInput) -> None:
    """Raises PdpError `pdp_input_too_large` over 1 MiB."""
    if len(document.body) > MAX_DOCUMENT_BYTES:
        raise PdpError(
            f"the policy input has {len(document.body)} bytes; at most {MAX_DOCUMENT_BYTES} are decided",
            code="pdp_input_too_large",
        )


def decide(document: PolicyInput, index: Index, revision: str, ask: Ask) -> Decision:
    """Ask what can apply to the tool; everything, should the policies see another tool than the guard.

    Raises:
        PdpError: `pdp_malformed`, or what *ask* raises.
    """
    phase = document.phase
    number = index.number(phase.value, document.tool)
    found = decided(phase, ask(number), revision=revision, tool=document.tool)
    if found is None:
        found = decided(phase, ask(index.whole(phase.value)), revision=revision)
    return cast("Decision", found)


def decided(phase: Phase, answer: str | bytes, *, revision: str, tool: str | None = None) -> Decision | None:
    """The decision that follows from what an entry point said, the JSON text *answer*.

    None if the policies saw another tool than *tool*, so that another entry point has to be asked.

    Raises:
        PdpError: `pdp_malformed`.
    """
    try:
        seen, answers, more = json.loads(answer)
        if tool is not None and seen != tool:
            return None
        parts = cast("list[tuple[str, str, Found]]", more)
        document = combine(phase.value, cast("Answers", answers), parts, revision=revision)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise PdpError(f"the engine's answer is malformed: {error}", code="pdp_malformed") from error
    return decision_from(cast("JSON", document))
