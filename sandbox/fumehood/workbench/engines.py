"""The engine that evaluates for the workbench: in a process apart, with the guard's deadline.

Whoever writes policies meets those that never end first; nothing could end them in this process.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable

from fumehood.pdp.apart import ApartLimits, EngineApart

__all__ = ["COVERING_S", "DECIDING_S", "loaded_engine"]

DECIDING_S = 0.25  # processor time of one decision, as the guard's worker has it
COVERING_S = 5.0  # of one whose lines are counted


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
