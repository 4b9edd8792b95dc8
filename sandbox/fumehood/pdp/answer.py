"""Between an engine's text and a Decision: shared by the embedded engines."""

from __future__ import annotations

import json
from typing import cast

from fumehood.canonical import JSON, MAX_DOCUMENT_BYTES
from fumehood.errors import PdpError
from fumehood.model import Decision, Phase, PolicyInput
from fumehood.observe_mode import Observing
from fumehood.pdp.combine import Answers, combine
from fumehood.pdp.decision import decision_from
from fumehood.pdp.observing import acted_on

__all__ = ["check_size", "decided"]


def check_size(document: PolicyInput) -> None:
    """Raises PdpError `pdp_input_too_large` over 1 MiB."""
    if len(document.body) > MAX_DOCUMENT_BYTES:
        raise PdpError(
            f"the policy input has {len(document.body)} bytes; at most {MAX_DOCUMENT_BYTES} are decided",
            code="pdp_input_too_large",
        )


def decided(
    phase: Phase, answer: str | bytes, *, revision: str, observing: Observing | None = None
) -> Decision:
    """The decision that follows from what the packages said, the JSON text *answer*.

    Raises:
        PdpError: `pdp_malformed`.
    """
    try:
        said = json.loads(answer)
        document = combine(phase.value, cast("Answers", said), revision=revision)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise PdpError(f"the engine's answer is malformed: {error}", code="pdp_malformed") from error
    full = decision_from(cast("JSON", document))
    return acted_on(phase, cast("Answers", said), full, observing)
