"""Opens the PDP that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fumehood.errors import ConfigError
from fumehood.model import Pdp
from fumehood.pdp.bundle import Bundle
from fumehood.pdp.process import Worker, WorkerLimits
from fumehood.pdp.server import OpaServer, server_of
from fumehood.pdp.thread import ThreadPdp
from fumehood.pdp.workers import WorkerPdp

__all__ = ["LOCK_DOWN", "open_pdp"]

LOCK_DOWN = "fumehood.confine.pdp:lock_down"


def open_pdp(
    bundle: Bundle,
    *,
    isolation: Literal["worker", "thread"] = "worker",
    url: str | OpaServer | None = None,
    workers: int = 2,
    deadline_s: float = 0.25,
    wall_s: float = 2.0,
    memory_bytes: int = 512 << 20,
    lock_down: str | None = LOCK_DOWN,
    spares: Sequence[Worker] = (),
) -> Pdp:
    """The PDP that decides with *bundle*: at the OPA server *url*, or else embedded.

    *lock_down* names what a worker calls, with `memory_bytes=`, to confine itself once it has loaded:
    "module:function" (None: limited in memory only). *deadline_s* is CPU time, *wall_s* wall clock.
    *spares* are workers that were started before, by `WorkerPdp.spares` of the PDP whose place this takes.

    Raises:
        ConfigError: *isolation* is neither "worker" nor "thread", or fewer than two workers are asked for.
            Or the OPA server cannot be used.
        ConfinementError: this host cannot confine a worker.
    """
    if url is not None:
        from fumehood.pdp.opa import OpaPdp

        return OpaPdp(bundle, OpaServer(url, deadline_s=wall_s) if isinstance(url, str) else server_of(url))
    if isolation == "thread":
        return ThreadPdp(bundle)
    if isolation != "worker":
        raise ConfigError(f'isolation is "worker" or "thread", not {isolation!r}')
    if workers < 2:
        raise ConfigError(f"at least two policy workers are needed, not {workers}: one may be replaced")
    limits = WorkerLimits(workers, deadline_s, wall_s, memory_bytes)
    return WorkerPdp(bundle, limits=limits, lock_down=lock_down, spares=spares)
