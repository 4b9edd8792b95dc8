"""Between an engine's text and a Decision: shared by the embedded engines."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import cast

from fumehood.canonical import JSON, MAX_DOCUMENT_BYTES
from fumehood.errors import PdpError
from fumehood.model import Decision, Phase, PolicyInput
from fumehood.observe_mode import Observing
from fumehood.pdp.combine import Answers, More, combine
from fumehood.pdp.decision import decision_from
from fumehood.pdp.index import Index
from fumehood.pdp.observing import acted_on

__all__ = ["Ask", "check_size", "decide", "decided"]

_SHORT = 4096  # characters or bytes; most calls get one of a few answers

Said = tuple[Answers, More]  # by rules that apply to any tool, and by others
Ask = Callable[[int], str | bytes]  # the number of an entry point → what it said


def check_size(document: PolicyInput) -> None:
    """Raises PdpError `pdp_input_too_large` over 1 MiB."""
    if len(document.body) > MAX_DOCUMENT_BYTES:
        raise PdpError(
            f"the policy input has {len(document.body)} bytes; at most {MAX_DOCUMENT_BYTES} are decided",
            code="pdp_input_too_large",
        )


def decide(
    document: PolicyInput, index: Index, revision: str, ask: Ask, *, observing: Observing | None = None
) -> Decision:
    """Ask what can apply to the tool, or to the one that the policies see, should it be another.

    Raises:
        PdpError: `pdp_malformed`, or what *ask* raises.
    """
    phase = document.phase
    seen, decision = _read(ask(index.number(phase.value, document.tool)), phase, revision, observing)
    if seen != document.tool:
        _, decision = _read(ask(index.number(phase.value, seen)), phase, revision, observing)
    return decision


def _read(
    answer: str | bytes, phase: Phase, revision: str, observing: Observing | None
) -> tuple[str, Decision]:
    """The tool that the policies saw, and what follows from what they said; a short answer is read once."""
    read = _read_once if len(answer) <= _SHORT else _read_anew
    return read(answer, phase, revision, observing)


def _read_anew(
    answer: str | bytes, phase: Phase, revision: str, observing: Observing | None
) -> tuple[str, Decision]:
    seen, said = _parsed(answer)
    return seen, decided(phase, said, revision=revision, observing=observing)


_read_once = lru_cache(maxsize=512)(_read_anew)


def decided(phase: Phase, said: Said, *, revision: str, observing: Observing | None = None) -> Decision:
    """The decision that follows from what the packages said; *observing*: which of them are only watched.

    Raises:
        PdpError: `pdp_malformed`.
    """
    answers, more = said
    try:
        document = combine(phase.value, answers, more, revision=revision)
    except (ValueError, TypeError, AttributeError) as error:
        raise _malformed(error) from error
    return acted_on(phase, answers, more, decision_from(cast("JSON", document)), observing)


def _parsed(answer: str | bytes) -> tuple[str, Said]:
    """The tool that the policies saw, and what they said."""
    try:
        seen, answers, more = json.loads(answer)
    except (ValueError, TypeError, RecursionError) as error:
        raise _malformed(error) from error
    if not isinstance(seen, str):
        raise _malformed("it names no tool")
    return seen, (answers, more)


def _malformed(why: object) -> PdpError:
    return PdpError(f"the engine's answer is malformed: {why}", code="pdp_malformed")
