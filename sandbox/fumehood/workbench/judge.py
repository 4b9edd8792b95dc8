"""Asks for decisions about whole policy inputs: embedded, or at the opa binary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, PdpError
from fumehood.pdp import gate, sources
from fumehood.pdp.answer import check_size, decide
from fumehood.pdp.engine import EngineError
from fumehood.pdp.expand import expanded
from fumehood.pdp.index import Index, entry_module, whole
from fumehood.pdp.syntax import Module
from fumehood.workbench.answers import Answer, answer_of, failure_of
from fumehood.workbench.cases import as_input
from fumehood.workbench.engines import loaded_engine

__all__ = ["EmbeddedJudge", "Judge", "gated"]

_MOST_LATE = 40  # after so many decisions that had to be ended nothing more is asked

Document = dict[str, JSON]


class Judge(Protocol):
    """One way to decide."""

    name: str

    def answers(self, documents: Sequence[Document]) -> list[Answer]:
        """What is decided about each."""
        ...


def gated(read: sources.Files) -> gate.Verdict:
    """The policies among *read*, which have passed the load gate.

    Raises:
        ConfigError: they have not; with every problem.
    """
    verdict = gate.inspect(read)
    if verdict.problems:
        raise ConfigError("the policies cannot be used", problems=verdict.problems)
    return verdict


class EmbeddedJudge:
    """The embedded engine with the guard's deadline, in a process that can be ended; *covers*: with the lines
    that it evaluates, for which it gets more time."""

    name = "embedded"

    def __init__(
        self,
        verdict: gate.Verdict,
        *,
        covers: bool = False,
        instead: Mapping[str, str] | None = None,
    ) -> None:
        """*instead*: other texts for some files, by path."""
        self._files, self._index = _files(verdict, instead or {})
        self._data = json.dumps(verdict.data)
        self._late = 0
        try:
            self._engine = loaded_engine(self._files, self._data, owner=self, covers=covers)
        except EngineError as error:
            raise ConfigError(f"the policy engine refuses the policies: {error}") from error

    def answers(self, documents: Sequence[Document]) -> list[Answer]:
        return [self._answer(document) for document in documents]

    def coverage(self) -> str:
        """As `Engine.coverage`."""
        return self._engine.coverage()

    def lines(self, modules: Sequence[Module]) -> str:
        """The report of a run that asked something of each file: else regorus names no line of it."""
        engine = loaded_engine(self._files, self._data, owner=self, covers=True)
        for module in modules:
            asked = next((r.name for r in module.rules if r.shape != "function" and not r.args), None)
            if asked is not None:
                with suppress(PdpError):
                    engine.query(f"data.{module.name}.{asked}", "{}")
        said = engine.coverage()
        engine.close()
        return said

    def late_rule(self, document: Document, names: Iterable[str]) -> str:
        """The first of these rules (full names) that alone takes too long, "" for none."""
        body = as_input(document).body.decode()
        for name in names:
            try:
                self._engine.evaluate(f"data.{name}", body)
            except PdpError as error:
                if failure_of(error).too_late:
                    return name
        return ""

    def close(self) -> None:
        """End its process; another is started if something is asked all the same."""
        self._engine.close()

    def _answer(self, document: Document) -> Answer:
        asked = as_input(document)
        try:
            check_size(asked)
            if self._late >= _MOST_LATE:
                raise PdpError(f"not asked: {self._late} others took too long", code="pdp_timeout")
            body, names = asked.body.decode(), self._index.names
            decision = decide(
                asked, self._index, "", lambda number: self._engine.evaluate(names[number], body)
            )
            return answer_of(decision)
        except PdpError as error:
            answer = failure_of(error)
            self._late += bool(answer.too_late)
            return answer


def _files(verdict: gate.Verdict, instead: Mapping[str, str]) -> tuple[list[tuple[str, str]], Index]:
    """What the engine loads: the author's files whole, so that their lines keep their numbers."""
    shipped = [(file.name, file.text) for file in (*sources.library(), *sources.embedded_library())]
    entry, index = entry_module(whole(verdict.rules))
    return [
        *shipped,
        *((m.file.path, _text(m, instead)) for m in verdict.modules),
        ("fumehood/entry.rego", entry),
    ], index


def _text(module: Module, instead: Mapping[str, str]) -> str:
    return instead.get(module.file.path) or expanded(module)
