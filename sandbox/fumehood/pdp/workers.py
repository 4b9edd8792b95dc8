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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from fumehood.errors import ConfinementError, PdpError
from fumehood.model import Decision, Phase, PolicyFacts, PolicyInput
from fumehood.pdp.answer import check_size, decide
from fumehood.pdp.aside import keep_to_first, processors, put_aside, use_every
from fumehood.pdp.bundle import Bundle
from fumehood.pdp.engine import GATED_LENGTHS
from fumehood.pdp.fair import FairQueue
from fumehood.pdp.process import Gone, Worker, WorkerLimits

__all__ = ["WorkerPdp"]

Messages = tuple[bytes, bytes]  # greeting and hello


@dataclass(slots=True)
class _Pool:
    """The workers of one process. `idle` holds None where a replacement could not be started."""

    idle: FairQueue[Worker | None] = field(default_factory=FairQueue)
    all: list[Worker] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    starting: threading.Lock = field(default_factory=threading.Lock)
    pid: int = field(default_factory=os.getpid)
    is_started: bool = False
    is_closed: bool = False


class WorkerPdp:
    """The embedded engine in confined processes."""

    def __init__(
        self, bundle: Bundle, *, limits: WorkerLimits, lock_down: str | None, spares: Sequence[Worker] = ()
    ) -> None:
        self._bundle = bundle
        self._limits = limits
        self._messages = _greeting(lock_down), _hello(bundle, limits)
        self._renew()
        self._pool.all.extend(spares)
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
        return decide(
            document,
            self._bundle.index,
            self._bundle.revision,
            lambda number: _value(self._ask(number, document.body)),
            observing=self._bundle.observing,
        )

    def close(self) -> None:
        """End the workers; from now on every call is refused."""
        self._end()

    @property
    def size(self) -> int:
        """How many workers it has."""
        return self._limits.workers

    def spare(self) -> Worker:
        """A worker that is started and holds no policies yet, for a PDP that is to take this one's place.

        Raises:
            PdpError: `pdp_unreachable`.
        """
        worker = _new(_Pool(), self._messages[0])
        put_aside(worker.process.pid)
        return worker

    @contextmanager
    def making_way(self) -> Iterator[None]:
        """Keep the workers to some of the processors while those of another PDP are made ready."""
        pids = self.pids()
        keep_to_first(pids)
        try:
            yield
        finally:
            use_every(pids)

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
        """Start all workers at once and wait until each is ready. With spares only the first is waited for,
        and the others follow: whoever replaces policies wants them to decide."""
        with pool.starting:
            if pool.is_started:
                return
            awaited, *others = list(pool.all[:1]), *pool.all[1:]
            if not awaited:
                awaited = [_new(pool, self._messages[0]) for _ in range(self._limits.workers)]
            try:
                for worker in awaited:
                    worker.ready(self._messages[1])
            except BaseException:
                for worker in awaited:
                    _drop(pool, worker)
                raise
            pool.is_started = True
        if others:
            keep_to_first(worker.process.pid for worker in awaited)
        for worker in awaited:
            pool.idle.put(worker)
        missing = self._limits.workers - len(awaited) - len(others)
        for other in (*others, *[None] * missing):
            _in_the_background(pool, self._messages, other)

    def _ask(self, number: int, body: bytes) -> bytes:
        until = time.monotonic() + self._limits.wall_s
        pool = self._current()
        for _ in range(self._limits.workers + 1):
            worker = self._take(pool, until)
            try:
                reply = worker.ask(number, body, self._limits)
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
            return _ready(pool, self._messages)
        except BaseException:
            pool.idle.put(None)
            raise

    def _replace(self, pool: _Pool, worker: Worker) -> None:
        """End *worker* and start another; nobody waits for it."""
        _drop(pool, worker)
        _in_the_background(pool, self._messages)


def _value(reply: bytes) -> bytes:
    """The value in a worker's answer: status byte and text."""
    if reply[0] == 0:
        return reply[1:]
    if reply[0] == 2:
        raise PdpError("the entry point is undefined", code="pdp_undefined")
    raise PdpError(reply[1:].decode(errors="replace"), code="pdp_error")


def _greeting(lock_down: str | None) -> bytes:
    """The first message to a worker; see worker.py."""
    return json.dumps({"path": [entry for entry in sys.path if entry], "lock_down": lock_down}).encode()


def _hello(bundle: Bundle, limits: WorkerLimits) -> bytes:
    """The second message to a worker; see worker.py."""
    said = {
        "files": bundle.embedded,
        "lengths": GATED_LENGTHS,
        "data": bundle.data,
        "rules": bundle.index.names,
        "warm": bundle.index.names[: len(Phase)],
        "processors": processors(),
        "memory_bytes": limits.memory_bytes,
        "call_s": int(limits.wall_s) + 2,
    }
    return json.dumps(said).encode()


def _new(pool: _Pool, greeting: bytes) -> Worker:
    with pool.lock:
        if pool.is_closed:
            raise PdpError("this PDP is closed", code="pdp_unreachable")
        try:
            worker = Worker(greeting)
        except OSError as error:
            raise PdpError(f"no policy worker can be started: {error}", code="pdp_unreachable") from error
        pool.all.append(worker)
    return worker


def _ready(pool: _Pool, messages: Messages, worker: Worker | None = None) -> Worker:
    worker = worker or _new(pool, messages[0])
    try:
        worker.ready(messages[1])
    except BaseException:
        _drop(pool, worker)
        raise
    return worker


def _in_the_background(pool: _Pool, messages: Messages, worker: Worker | None = None) -> None:
    """One more worker, or *worker*, which has been started; nobody waits for it."""
    arguments = (pool, messages, worker)
    threading.Thread(target=_refill, args=arguments, name="fumehood-pdp", daemon=True).start()


def _refill(pool: _Pool, messages: Messages, worker: Worker | None) -> None:
    try:
        if worker is None:
            worker = _new(pool, messages[0])
            put_aside(worker.process.pid)
        worker = _ready(pool, messages, worker)
    except (PdpError, ConfinementError):
        worker = None  # whoever takes this place tries again, and reports
    pool.idle.put(worker)
    use_every(one.process.pid for one in list(pool.all))


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
