"""Policies that are replaced while calls are decided: checked first, then swapped between two calls.

One decision is made by one revision: a document that was put together for a revision is decided by it,
also when another took its place meanwhile. What is refused changes nothing.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Protocol

from fumehood.errors import ConfigError, FumehoodError, PdpError
from fumehood.model import Decision, Pdp, PolicyFacts, PolicyInput
from fumehood.observe_mode import Mode
from fumehood.pdp import sources
from fumehood.pdp.bundle import Bundle, load_bundle
from fumehood.pdp.keys import Keys
from fumehood.pdp.loading import Loader
from fumehood.pdp.observing import told
from fumehood.pdp.process import Worker
from fumehood.pdp.workers import WorkerPdp

__all__ = ["ReloadablePdp", "watch"]

Source = str | os.PathLike[str]
GRACE_S = 10.0  # a replaced PDP is ended after this: longer than any decision takes
INTERVAL_S = 0.5  # how often the files are looked at


class Report(Protocol):
    """Is told of every reload: `kind` is "policy_reloaded" or "policy_refused"."""

    def __call__(self, kind: str, summary: str, /) -> None: ...


class Opened(Protocol):
    def __call__(self, bundle: Bundle, /, *, spares: Sequence[Worker]) -> Pdp: ...


class ReloadablePdp:
    """A PDP whose bundle can be replaced. Thread-safe."""

    def __init__(
        self,
        given: Sequence[Source],
        opened: Opened,
        *,
        signed_by: Keys = (),
        mode: Mode = Mode.ENFORCE,
    ) -> None:
        """*opened* opens a PDP for a bundle (see `open_pdp`); *signed_by* and *mode* hold for what comes
        later, too.

        Raises:
            ConfigError: the policies cannot be used; and what *opened* raises.
        """
        self._given = tuple(given)
        self._opened = opened
        self.bundle: Bundle = load_bundle(given, signed_by=signed_by, mode=mode)
        self._current = opened(self.bundle, spares=())
        self._replaced: tuple[Pdp, ...] = ()
        self._loader = Loader(given, signed_by, mode)
        self._spares: list[Worker] = []  # started and without policies
        self._end_spares = weakref.finalize(self, _end, self._spares)
        os.register_at_fork(after_in_child=functools.partial(_own, weakref.ref(self)))
        self._lock = threading.Lock()  # one reload at a time
        self._swap = threading.Lock()
        self._pid = os.getpid()
        self._is_closed = False

    @property
    def facts(self) -> PolicyFacts:
        return self._current.facts

    def evaluate(self, document: PolicyInput, /) -> Decision:
        """Decide, by the revision that *document* was put together for.

        Raises:
            PdpError: with a `pdp_*` code.
        """
        current = self._current
        if document.revision and document.revision != current.facts.revision:
            current = self._replaced_by(document.revision) or _still_fits(current)
        return current.evaluate(document)

    def reload(self, report: Report = lambda kind, summary: None) -> str:
        """Check the policies as they are now and decide by them from the next call on; their revision.

        Raises:
            ConfigError: they are refused, and those in use stay.
            ConfinementError, PdpError: no engine could be started for them, and those in use stay.
        """
        self._own()
        with self._lock:
            try:
                return self._replace(report)
            except FumehoodError as error:
                stay = f"the policies in use stay ({self.facts.revision[:19]}…)"
                report("policy_refused", f"changed policies are refused, {stay}: {error}")
                raise

    def prepare(self) -> None:
        """Start what `reload` needs, so that it takes less time."""
        self._own()
        self._loader.start()
        self._prepare_spares()
        if self._is_closed:  # meanwhile
            self._loader.close()

    def _prepare_spares(self) -> None:
        with self._swap:
            self._drop_dead()
            if not self._is_closed and isinstance(self._current, WorkerPdp):
                while len(self._spares) < self._current.size:
                    self._spares.append(self._current.spare())

    def close(self) -> None:
        """End everything; from now on every call is refused."""
        self._own()
        with self._swap:
            self._is_closed = True
            pdps = (self._current, *self._replaced)
        self._loader.close()
        self._end_spares()
        for pdp in pdps:
            pdp.close()

    def _replace(self, report: Report) -> str:
        if self._is_closed:
            raise ConfigError("this guard is closed")
        before, spares = self.facts.revision, self._ready_spares()
        try:
            bundle = self._loader.load()
            if bundle.revision == before:
                return before
            current = self._current
            with current.making_way() if isinstance(current, WorkerPdp) else nullcontext():
                new, spares = self._opened(bundle, spares=spares), []
        finally:
            self._keep(spares)
        old = self._put(new, bundle)
        retire = threading.Timer(GRACE_S, _retire, (weakref.ref(self), old))
        retire.daemon = True
        retire.start()
        said = f"the policies are now {bundle.revision[:19]}…, before {before[:19]}…"
        if bundle.observing is not None:
            said += f"; {told(bundle.observing, bundle.marked)}"
        report("policy_reloaded", said)
        return bundle.revision

    def _ready_spares(self) -> list[Worker]:
        """Those that wait already, or one that starts while the policies are checked."""
        with self._swap:
            self._drop_dead()
            kept = list(self._spares)
            self._spares.clear()
        if kept or not isinstance(self._current, WorkerPdp):
            return kept
        return [self._current.spare()]

    def _drop_dead(self) -> None:
        if any(worker.process.poll() is not None for worker in self._spares):
            _end(self._spares)

    def _keep(self, spares: list[Worker]) -> None:
        """For the next time."""
        with self._swap:
            if self._is_closed or self._spares:
                _end(spares)
            else:
                self._spares.extend(spares)

    def _put(self, new: Pdp, bundle: Bundle) -> Pdp:
        """Let *new* decide from the next document on; who decided before."""
        with self._swap:
            if self._is_closed:
                new.close()
                raise ConfigError("this guard was closed meanwhile")
            old = self._current
            self._replaced = (*self._replaced, old)
            self._current, self.bundle = new, bundle
        return old

    def _own(self) -> None:
        """In a forked child a lock may be held by a thread that does not exist."""
        if self._pid != os.getpid():
            self._lock, self._swap, self._pid = threading.Lock(), threading.Lock(), os.getpid()
            self._end_spares.detach()
            for worker in self._spares:
                worker.forget()
            self._spares = []
            self._end_spares = weakref.finalize(self, _end, self._spares)

    def _replaced_by(self, revision: str) -> Pdp | None:
        return next((pdp for pdp in self._replaced if pdp.facts.revision == revision), None)

    def _forget(self, pdp: Pdp) -> None:
        self._replaced = tuple(other for other in self._replaced if other is not pdp)


def _retire(there: weakref.ref[ReloadablePdp], pdp: Pdp) -> None:
    found = there()
    if found is not None:
        found._forget(pdp)
    pdp.close()
    if found is not None:
        with suppress(PdpError):  # a reload tries again, and reports
            found._prepare_spares()


def _own(there: weakref.ref[ReloadablePdp]) -> None:
    found = there()
    if found is not None:
        found._own()


def _end(spares: list[Worker]) -> None:
    while spares:
        spares.pop().end()


def _still_fits(current: Pdp) -> Pdp:
    """*current*, if it needs nothing that a document for an older revision may lack."""
    if current.facts.reads_history or current.facts.reads_parsed:
        text = "the policies were replaced while this call was being put together; call again"
        raise PdpError(text, code="pdp_error")
    return current


def watch(pdp: ReloadablePdp, report: Report) -> Callable[[], None]:
    """Reload *pdp* whenever its files have changed and then stood still for a moment; the end of it."""
    ended = threading.Event()
    there = weakref.ref(pdp)
    given = pdp._given
    known = sources.stamp(given)  # taken here: what changes from now on is seen
    arguments = (there, given, known, report, ended)
    threading.Thread(target=_look, args=arguments, name="fumehood-policies", daemon=True).start()
    return ended.set


def _look(
    there: weakref.ref[ReloadablePdp],
    given: Sequence[Source],
    known: sources.Stamp,
    report: Report,
    ended: threading.Event,
) -> None:
    seen = known
    pdp = there()
    if pdp is not None:
        with suppress(ConfigError, PdpError):  # a reload tries again, and reports
            pdp.prepare()
    del pdp
    while not ended.wait(INTERVAL_S):
        now = sources.stamp(given)
        is_still, seen = now == seen, now
        if now == known or not is_still:
            continue
        known = now
        pdp = there()
        if pdp is None or ended.is_set():
            return
        with suppress(FumehoodError):  # reported by `reload`; what decides stays
            pdp.reload(report)
        del pdp
