"""Asks for decisions about whole policy inputs: embedded, or at the opa binary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, PdpError
from fumehood.pdp import gate, sources
from fumehood.pdp.answer import check_size, decide
from fumehood.pdp.engine import Engine, EngineError
from fumehood.pdp.expand import expanded
from fumehood.pdp.index import Index, entry_module, whole
from fumehood.pdp.syntax import Module
from fumehood.workbench.answers import Answer, answer_of, failure_of
from fumehood.workbench.cases import as_input

__all__ = ["EmbeddedJudge", "Judge", "gated"]

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
    """The embedded engine in this thread, as the guard uses it; *covers*: with the lines it evaluates."""

    name = "embedded"

    def __init__(
        self, verdict: gate.Verdict, *, covers: bool = False, instead: Mapping[str, str] | None = None
    ) -> None:
        """*instead*: other texts for some files, by path."""
        self._files, self._index = _files(verdict, instead or {})
        self._data = json.dumps(verdict.data)
        self._covers = covers
        self._engine = self._fresh()

    def answers(self, documents: Sequence[Document]) -> list[Answer]:
        return [self._answer(document) for document in documents]

    def coverage(self) -> str:
        """As `Engine.coverage`."""
        return self._engine.coverage()

    def _fresh(self) -> Engine:
        try:
            engine = Engine(self._files, self._data, is_gated=True)
        except EngineError as error:
            raise ConfigError(f"the policy engine refuses the policies: {error}") from error
        if self._covers:
            engine.cover()
        return engine

    def _answer(self, document: Document) -> Answer:
        asked = as_input(document)
        try:
            check_size(asked)
            body, names = asked.body.decode(), self._index.names
            decision = decide(
                asked, self._index, "", lambda number: self._engine.evaluate(names[number], body)
            )
            return answer_of(decision)
        except PdpError as error:
            if error.code == "pdp_crashed":
                self._engine = self._fresh()
            return failure_of(error)


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
