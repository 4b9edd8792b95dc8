"""Replays a ledger, in several processes where it is large, and sums up what changed."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import cast

from fumehood.errors import FumehoodError
from fumehood.ledger import Event, open_ledger
from fumehood.pdp import Bundle
from fumehood.pdp.keys import Keys
from fumehood.pdp.sources import Source
from fumehood.pdp.syntax import Module
from fumehood.workbench.engines import EndedPdp
from fumehood.workbench.loading import load_parsed
from fumehood.workbench.reads import Reads
from fumehood.workbench.replay import Answer, Change, Difference, Replayer

__all__ = ["Group", "Summary", "Wanted", "replay"]

_CHUNK = 1000  # decisions in one reading
_SPAN = 4000  # event numbers for one task of a process
_WORTH_IT = 6000  # events from which a second process pays for its start


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which decisions of which ledger; None is all."""

    ledger: str
    session: str | None = None
    agent: str | None = None


_Start = tuple[Bundle, tuple[Module, ...], Wanted, int]  # what a task is made of


@dataclass(slots=True)
class Group:
    """Calls of one tool, or their results, that changed in the same way. `seqs` are the first of them."""

    change: Change
    tool: str
    before: Answer
    after: Answer
    why: str = ""
    is_result: bool = False
    count: int = 0
    seqs: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Summary:
    """`counts` of calls by change; `permitted` calls were denied or asked and would now run by themselves.

    `result_counts` are those of results; `released` ones were withheld and would now be the agent's.
    """

    revision: str = ""
    calls: int = 0
    permitted: int = 0
    counts: Counter[Change] = field(default_factory=Counter)
    results: int = 0
    released: int = 0
    result_counts: Counter[Change] = field(default_factory=Counter)
    groups: list[Group] = field(default_factory=list)


@dataclass(slots=True)
class _Tally:
    """What one task found. Groups are kept by what makes them one."""

    examples: int
    counts: Counter[tuple[bool, Change]] = field(default_factory=Counter)  # of results, of calls
    widened: Counter[bool] = field(default_factory=Counter)  # what is permitted or released now
    groups: dict[tuple[object, ...], Group] = field(default_factory=dict)

    def add(self, found: Difference) -> None:
        self.counts[found.is_result, found.change] += 1
        self.widened[found.is_result] += found.is_permitted
        if found.change is not Change.SAME:
            of = (found.change, found.tool, found.before, found.after, found.why, found.is_result)
            self.take(Group(*of, 1, [found.seq]))

    def take(self, group: Group) -> None:
        """Add *group* to the one that is like it."""
        key = (
            group.is_result,
            group.change,
            group.tool,
            group.why,
            *_what(group.before),
            *_what(group.after),
        )
        of = (group.change, group.tool, group.before, group.after, group.why, group.is_result)
        known = self.groups.setdefault(key, Group(*of))
        known.count += group.count
        known.seqs = sorted([*known.seqs, *group.seqs])[: self.examples]

    def join(self, other: _Tally) -> None:
        self.counts += other.counts
        self.widened += other.widened
        for group in other.groups.values():
            self.take(group)


def replay(
    given: Sequence[Source],
    wanted: Wanted,
    *,
    processes: int | None = None,
    examples: int = 5,
    signed_by: Keys = (),
) -> Summary:
    """Decide the recorded calls of a ledger, and their results, again, by the policies in *given*.

    *processes*: how many (None: one for each processor that this process may use, at most 8); a small
    ledger is read in this one.

    Raises:
        ConfigError: the policies cannot be used.
        LedgerError: the ledger cannot be used.
    """
    bundle, modules = load_parsed(given, signed_by=signed_by)
    last = _last(wanted.ledger)
    count = min(8, len(os.sched_getaffinity(0))) if processes is None else processes
    if last < _WORTH_IT and processes is None:
        count = 1
    spans = [(after, min(after + _SPAN, last)) for after in range(0, last, _SPAN)]
    tally = _Tally(examples)
    for found in _in_processes(count, (bundle, modules, wanted, examples), spans):
        tally.join(found)
    order = list(Change)
    groups = sorted(
        tally.groups.values(), key=lambda g: (order.index(g.change), g.is_result, -g.count, g.tool, g.seqs)
    )
    calls, results = (
        Counter({change: n for (is_result, change), n in tally.counts.items() if is_result is which})
        for which in (False, True)
    )
    return Summary(
        bundle.revision,
        calls.total(),
        tally.widened[False],
        calls,
        results.total(),
        tally.widened[True],
        results,
        groups,
    )


def _in_processes(count: int, start: _Start, spans: Sequence[tuple[int, int]]) -> Iterator[_Tally]:
    """What *count* processes find, each in its share of the *spans*. This is one of them, and the last."""
    context = get_context("spawn")
    workers: list[BaseProcess] = []
    ends: list[Connection] = []
    try:
        for n in range(1, count):
            mine, theirs = context.Pipe(duplex=False)
            ends.append(mine)
            begun = context.Process(target=_work, args=(theirs, spans[n::count], start), daemon=True)
            begun.start()
            workers.append(begun)
            theirs.close()
        yield _found(start, spans[::count])
        for end in ends:
            yield _received(end)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
        for end in ends:
            end.close()


def _received(end: Connection) -> _Tally:
    try:
        found = end.recv()
    except EOFError as error:
        text = "a process that replayed was ended from outside (out of memory?); try --processes 1"
        raise FumehoodError(text) from error
    if isinstance(found, BaseException):
        raise found
    return cast("_Tally", found)


def _work(end: Connection, spans: Sequence[tuple[int, int]], start: _Start) -> None:
    """One of the other processes: sends what it found, or the error that it met."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    parent = parent_process()
    try:
        end.send(_found(start, spans, lambda: parent is None or parent.is_alive()))
    except FumehoodError as error:
        end.send(error)


def _found(
    start: _Start, spans: Sequence[tuple[int, int]], is_wanted: Callable[[], bool] = lambda: True
) -> _Tally:
    """What is found in *spans*, as far as somebody wants to know."""
    task = _Task(*start)
    try:
        tally = _Tally(task.examples)
        for span in spans:
            if is_wanted():
                tally.join(task.run(*span))
        return tally
    finally:
        task.close()


def _what(answer: Answer) -> tuple[object, ...]:
    return (answer.level, answer.codes, answer.reasons, answer.obligations, answer.rules)


def _last(path: str) -> int:
    book = open_ledger(path, create=False, readonly=True)
    try:
        events = book.last_events(1)
    finally:
        book.close()
    return events[-1].seq if events else 0


class _Task:
    """One process's part: an engine and a reader."""

    def __init__(self, bundle: Bundle, modules: tuple[Module, ...], wanted: Wanted, examples: int) -> None:
        self._pdp = EndedPdp(bundle)
        self._replayer = Replayer(self._pdp, Reads(modules))
        self._wanted, self.examples = wanted, examples
        self._book = open_ledger(wanted.ledger, create=False, readonly=True)

    def run(self, after: int, until: int) -> _Tally:
        """Events *after* … *until*, the latter included."""
        tally = _Tally(self.examples)
        book, replayer = self._book, self._replayer
        for read, decide in ((book.decisions, replayer.decide), (book.outcomes, replayer.result)):
            for event_and_input in _read(read, self._wanted, after, until):
                found = decide(*event_and_input)
                if found is not None:
                    tally.add(found)
        return tally

    def close(self) -> None:
        """Close the ledger, and end the engine."""
        self._book.close()
        self._pdp.close()


def _read(
    read: Callable[..., list[tuple[Event, bytes]]], wanted: Wanted, after: int, until: int
) -> Iterator[tuple[Event, bytes]]:
    while after < until:
        page = read(after, limit=_CHUNK, session=wanted.session, agent=wanted.agent)
        for event, document in page:
            if event.seq > until:
                return
            yield event, document
        if not page:
            return
        after = page[-1][0].seq
