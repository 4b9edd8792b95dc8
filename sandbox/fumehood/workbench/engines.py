"""The engine that evaluates for the workbench: in a process apart, with the guard's deadline.

Whoever writes policies meets those that never end first; nothing could end them in this process.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable

from fumehood.errors import FumehoodError, PdpError
from fumehood.model import Decision, PolicyFacts, PolicyInput
from fumehood.pdp import Bundle, open_pdp
from fumehood.pdp.apart import ApartLimits, EngineApart

__all__ = ["COVERING_S", "DECIDING_S", "EndedPdp", "loaded_engine"]

DECIDING_S = 0.25  # processor time of one decision, as the guard's worker has it
COVERING_S = 5.0  # of one whose lines are counted
_WALL_S = 60.0  # a busy host is no reason to end anything
_MOST_ENDED = 100


def loaded_engine(
    files: Iterable[tuple[str, str]], data: str, *, owner: object, covers: bool = False
) -> EngineApart:
    """Policies that passed the gate, ready to be asked; the process ends with *owner*. *covers*: and takes
    down which lines are evaluated.

    Raises:
        EngineError: they are refused.
    """
    engine = EngineApart(ApartLimits(cpu_s=COVERING_S if covers else DECIDING_S))
    weakref.finalize(owner, engine.close)
    engine.load(files, data, is_gated=True)
    engine.loaded()
    if covers:
        engine.cover()
    return engine


class EndedPdp:
    """A PDP for many calls: each has the guard's deadline, and not too many may miss it."""

    def __init__(self, bundle: Bundle) -> None:
        self._pdp = open_pdp(
            bundle, isolation="worker", lock_down=None, deadline_s=DECIDING_S, wall_s=_WALL_S
        )
        self._ended = 0

    @property
    def facts(self) -> PolicyFacts:
        return self._pdp.facts

    def evaluate(self, document: PolicyInput, /) -> Decision:
        """Decide.

        Raises:
            PdpError: with a `pdp_*` code.
            FumehoodError: too many calls had to be ended.
        """
        try:
            return self._pdp.evaluate(document)
        except PdpError as error:
            self._ended += error.code in ("pdp_timeout", "pdp_crashed")
            if self._ended >= _MOST_ENDED:
                text = f"the policies take too long, or crash the engine, for {self._ended} calls, as of"
                raise FumehoodError(f"{text} the tool {document.tool!r}: {error}") from error
            raise

    def close(self) -> None:
        """End the workers."""
        self._pdp.close()
