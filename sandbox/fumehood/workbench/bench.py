"""How long the policies take to decide a call: embedded in a thread, in a confined worker, at a server."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, PdpError
from fumehood.model import Pdp, Phase, PolicyInput, understood
from fumehood.pdp import Bundle, open_pdp, sources
from fumehood.pdp.keys import Keys
from fumehood.pdp.sources import PolicyFile, Source
from fumehood.workbench.call_input import documents_from
from fumehood.workbench.cases import ENDINGS, cases_of
from fumehood.workbench.tools import FILE_NAME, ToolSchema, tools_beside

__all__ = ["ENDED", "Case", "Timing", "bench", "calls_in", "rows_of"]

ENDED = frozenset({"pdp_timeout", "pdp_crashed"})  # answers of policies that had to be ended
_FEW = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One call to decide: a name for the table and its whole policy input."""

    name: str
    document: JSON

    def as_input(self) -> PolicyInput:
        """The same, ready for a PDP."""
        said = cast("Any", self.document)
        body = json.dumps(said, ensure_ascii=False, allow_nan=False).encode()
        return PolicyInput(Phase(said["action"]["name"]), said["resource"]["id"], body)


def calls_in(path: Path, tools: Sequence[ToolSchema] = ()) -> list[Case]:
    """The calls of a file: a case table, or JSON with one call or a list of them. *tools* know their
    annotations.

    Raises:
        BindError: a call is not understood.
        ConfigError: the table cannot be read.
    """
    if path.name.endswith(ENDINGS):
        beside = [path.parent / FILE_NAME] if (path.parent / FILE_NAME).is_file() else []
        return _rows([PolicyFile(p.name, str(p), p.read_text(), "") for p in (path, *beside)])
    documents = documents_from(path.read_bytes(), tools)
    names = [f"{path.name}#{n}" for n in range(len(documents))] if len(documents) > 1 else [path.name]
    return [Case(name, document) for name, document in zip(names, documents, strict=True)]


def rows_of(given: Sequence[Source], signed_by: Keys = ()) -> list[Case]:
    """The rows of the case tables that stand beside policies.

    Raises:
        ConfigError: there are no such policies, or a table cannot be read.
    """
    return _rows(sources.read(given, signed_by).files)


def _rows(files: Sequence[PolicyFile]) -> list[Case]:
    rows, problems = cases_of(files, tools_beside(files))
    if problems:
        raise ConfigError("the case tables cannot be read", problems=tuple(problems))
    return [Case(row.name, cast("JSON", row.document)) for row in rows]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one case took one engine, in microseconds. `answer` is the effect, or the code of an error."""

    case: str
    engine: str  # thread, worker or server
    answer: str
    count: int
    p50_us: float
    p99_us: float


def bench(bundle: Bundle, cases: Sequence[Case], *, count: int, url: str | None = None) -> Iterator[Timing]:
    """Decide each case *count* times with each engine, after a warm-up; *url* is an OPA server's.

    A case for which a worker had to be ended is asked a few times only, and not in this thread, which nothing
    could end.

    Raises:
        ConfigError: the server cannot be used.
        ConfinementError: this host cannot confine a worker.
    """
    with closing(open_pdp(bundle, isolation="worker")) as worker:
        late = {case.name for case in cases if _decided(worker, case.as_input()) in ENDED}
        quick = [case for case in cases if case.name not in late]
        if quick:
            with closing(open_pdp(bundle, isolation="thread")) as thread:
                yield from (_timed(thread, "thread", case, count) for case in quick)
        yield from (_timed(worker, "worker", case, _FEW if case.name in late else count) for case in cases)
    if url is not None:
        with closing(open_pdp(bundle, url=url)) as server:
            yield from (
                _timed(server, "server", case, _FEW if case.name in late else count) for case in cases
            )


def _timed(pdp: Pdp, engine: str, case: Case, count: int) -> Timing:
    asked = case.as_input()
    answer = ""
    for _ in range(max(3, count // 10) if count > _FEW else 0):
        answer = _decided(pdp, asked)
    times: list[int] = []
    for _ in range(count):
        began = time.perf_counter_ns()
        answer = _decided(pdp, asked)
        times.append(time.perf_counter_ns() - began)
    times.sort()
    p99 = times[min(count - 1, int(count * 0.99))]
    return Timing(case.name, engine, answer, count, statistics.median(times) / 1000, p99 / 1000)


def _decided(pdp: Pdp, asked: PolicyInput) -> str:
    try:
        decision = understood(pdp.evaluate(asked))
    except PdpError as error:
        return error.code
    return "ask" if decision.is_permit and decision.approvals else decision.effect.value
