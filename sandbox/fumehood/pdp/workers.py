"""Decides in worker processes: a policy that loops, leaks or crashes costs one call, never the application.

The deadline is the worker's CPU time (a busy host is no reason to deny) with a wall clock behind it.
A call that finds its worker dead before sending goes to the next one. After a fork the child forgets
the workers and starts its own when it first asks.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import sys
import threading
import time
import weakref
from dataclasses import dataclass, field

from fumehood.errors import ConfinementError, PdpError
from fumehood.model import Decision, PolicyFacts, PolicyInput
from fumehood.pdp.answer import check_size, decided
from fumehood.pdp.bundle import Bundle
from fumehood.pdp.combine import ENTRY
from fumehood.pdp.engine import GATED_LENGTHS
from fumehood.pdp.process import PHASES, Gone, Worker, WorkerLimits

__all__ = ["WorkerPdp"]


@dataclass(slots=True)
class _Pool:
    """The workers of one process. `idle` holds None where a replacement could not be started."""

    idle: queue.SimpleQueue[Worker | None] = field(default_factory=queue.SimpleQueue)
    all: list[Worker] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    starting: threading.Lock = field(default_factory=threading.Lock)
    pid: int = field(default_factory=os.getpid)
    is_started: bool = False
    is_closed: bool = False


class WorkerPdp:
    """The embedded engine in confined processes."""

    def __init__(self, bundle: Bundle, *, limits: WorkerLimits, lock_down: str | None) -> None:
        self._bundle = bundle
        self._limits = limits
        self._hello = _hello(bundle, limits, lock_down)
        self._renew()
        os.register_at_fork(after_in_child=functools.partial(_forget, weakref.ref(self)))
        self._start(self._pool)

    @property
    def facts(self) -> PolicyFacts:
        return self._bundle.facts

    def evaluate(self, document: PolicyInput, /) -> Decision:
        """Decide.

        Raises:
            PdpError: with a `pdp_*` code.
        """
        check_size(document)
        reply = self._ask(document)
        if reply[0] == 0:
            return decided(
                document.phase, reply[1:], revision=self._bundle.revision, observing=self._bundle.observing
            )
        if reply[0] == 2:
            raise PdpError("the entry point is undefined", code="pdp_undefined")
        raise PdpError(reply[1:].decode(errors="replace"), code="pdp_error")

    def close(self) -> None:
        """End the workers; from now on every call is refused."""
        self._end()

    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers."""
        return tuple(worker.process.pid for worker in self._pool.all)

    def _renew(self) -> None:
        """A pool for this process; its workers end with this object, or with the interpreter."""
        self._pool = _Pool()
        self._end = weakref.finalize(self, _end_all, self._pool)

    def _forget(self) -> None:
        """In a forked child: the workers are the parent's."""
        self._end.detach()
        for worker in self._pool.all:
            worker.forget()
        was_closed = self._pool.is_closed
        self._renew()
        self._pool.is_closed = was_closed

    def _start(self, pool: _Pool) -> None:
        """Start all workers at once, then wait until each is ready."""
        with pool.starting:
            if pool.is_started:
                return
            started = [_new(pool, self._hello) for _ in range(self._limits.workers)]
            try:
                for worker in started:
                    worker.ready()
            except BaseException:
                for worker in started:
                    _drop(pool, worker)
                raise
            pool.is_started = True
        for worker in started:
            pool.idle.put(worker)

    def _ask(self, document: PolicyInput) -> bytes:
        until = time.monotonic() + self._limits.wall_s
        pool = self._current()
        for _ in range(self._limits.workers + 1):
            worker = self._take(pool, until)
            try:
                reply = worker.ask(document.phase, document.body, self._limits)
            except Gone:
                self._replace(pool, worker)
                continue
            except BaseException:
                self._replace(pool, worker)
                raise
            pool.idle.put(worker)
            return reply
        raise PdpError("no policy worker stays alive", code="pdp_unreachable")

    def _current(self) -> _Pool:
        if self._pool.pid != os.getpid():  # forked by something that runs no Python hooks
            self._forget()
        pool = self._pool
        if pool.is_closed:
            raise PdpError("this PDP is closed", code="pdp_unreachable")
        if not pool.is_started:
            self._start(pool)
        return pool

    def _take(self, pool: _Pool, until: float) -> Worker:
        try:
            worker = pool.idle.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise PdpError("no policy worker became free in time", code="pdp_timeout") from None
        if worker is not None:
            return worker
        try:
            return _ready(pool, self._hello)
        except BaseException:
            pool.idle.put(None)
            raise

    def _replace(self, pool: _Pool, worker: Worker) -> None:
        """End *worker* and start another; nobody waits for it."""
        _drop(pool, worker)
        refill = threading.Thread(target=_refill, args=(pool, self._hello), name="fumehood-pdp", daemon=True)
        refill.start()


def _hello(bundle: Bundle, limits: WorkerLimits, lock_down: str | None) -> bytes:
    """The first message to a worker; see worker.py."""
    said = {
        "path": [entry for entry in sys.path if entry],
        "files": bundle.embedded,
        "lengths": GATED_LENGTHS,
        "data": bundle.data,
        "rules": [f"data.{ENTRY}.{phase.value}" for phase in PHASES],
        "lock_down": lock_down,
        "memory_bytes": limits.memory_bytes,
        "call_s": int(limits.wall_s) + 2,
    }
    return json.dumps(said).encode()


def _new(pool: _Pool, hello: bytes) -> Worker:
    with pool.lock:
        if pool.is_closed:
            raise PdpError("this PDP is closed", code="pdp_unreachable")
        try:
            worker = Worker(hello)
        except OSError as error:
            raise PdpError(f"no policy worker can be started: {error}", code="pdp_unreachable") from error
        pool.all.append(worker)
    return worker


def _ready(pool: _Pool, hello: bytes) -> Worker:
    worker = _new(pool, hello)
    try:
        worker.ready()
    except BaseException:
        _drop(pool, worker)
        raise
    return worker


def _refill(pool: _Pool, hello: bytes) -> None:
    try:
        worker: Worker | None = _ready(pool, hello)
    except (PdpError, ConfinementError):
        worker = None  # whoever takes this place tries again, and reports
    pool.idle.put(worker)


def _drop(pool: _Pool, worker: Worker) -> None:
    with pool.lock:
        if worker in pool.all:
            pool.all.remove(worker)
    worker.end()


def _end_all(pool: _Pool) -> None:
    with pool.lock:
        pool.is_closed = True
        workers = list(pool.all)
        pool.all.clear()
    for worker in workers:
        worker.end()


def _forget(reference: weakref.ref[WorkerPdp]) -> None:
    pdp = reference()
    if pdp is not None:
        pdp._forget()
