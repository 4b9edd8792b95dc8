"""Decides in this process, one engine per thread: for those who trust every policy.

No deadline and no memory limit hold here; a policy that loops holds its thread.
"""

from __future__ import annotations

import threading

from fumehood.errors import PdpError
from fumehood.model import Decision, PolicyFacts, PolicyInput
from fumehood.pdp.answer import check_size, decide
from fumehood.pdp.bundle import Bundle
from fumehood.pdp.engine import Engine

__all__ = ["ThreadPdp"]


class ThreadPdp:
    """The embedded engine in the caller's own thread."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._local = threading.local()
        self._is_closed = False
        self._engine()

    @property
    def facts(self) -> PolicyFacts:
        return self._bundle.facts

    def evaluate(self, document: PolicyInput, /) -> Decision:
        """Decide.

        Raises:
            PdpError: with a `pdp_*` code.
        """
        if self._is_closed:
            raise PdpError("this PDP is closed", code="pdp_unreachable")
        check_size(document)
        index = self._bundle.index
        try:
            body, engine = document.body.decode(), self._engine()
            return decide(
                document,
                index,
                self._bundle.revision,
                lambda number: engine.evaluate(index.names[number], body),
                observing=self._bundle.observing,
            )
        except UnicodeDecodeError as error:
            raise PdpError(f"the input is not UTF-8: {error}", code="pdp_error") from error
        except PdpError as error:
            if error.code == "pdp_crashed":
                del self._local.engine
            raise

    def close(self) -> None:
        """Forget this thread's engine; from now on every call is refused."""
        self._is_closed = True
        self._local.__dict__.pop("engine", None)

    def _engine(self) -> Engine:
        engine: Engine | None = getattr(self._local, "engine", None)
        if engine is None:
            engine = self._local.engine = Engine(self._bundle.embedded, self._bundle.data, is_gated=True)
        return engine
