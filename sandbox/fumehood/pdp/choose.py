"""Opens the PDP that was asked for."""

from __future__ import annotations

from typing import Literal

from fumehood.model import Pdp
from fumehood.pdp.bundle import Bundle
from fumehood.pdp.thread import ThreadPdp

__all__ = ["open_pdp"]


def open_pdp(bundle: Bundle, *, isolation: Literal["worker", "thread"] = "worker") -> Pdp:
    """The PDP that decides with *bundle*."""
    return ThreadPdp(bundle)
