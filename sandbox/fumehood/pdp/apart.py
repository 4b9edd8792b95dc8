"""An engine in a process apart, with a deadline: for policies that nobody has checked yet, and for tests.

A policy may go through a list that has no end in this world, or ask for all the memory there is. Inside of a
process nothing can stop the engine; so that process is another one, and ended. The questions are those of
`Engine`, and what is asked after such an end is asked of a new process.
"""

from __future__ import annotations

import json
import marshal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, cast

from fumehood.errors import PdpError
from fumehood.pdp.engine import GATED_LENGTHS, UNDEFINED, EngineError, plain_message
from fumehood.pdp.process import START_S, Child, Gone

__all__ = ["ApartLimits", "EngineApart", "Question"]

_ERROR, _PANIC = 1, 2


@dataclass(frozen=True, slots=True)
class ApartLimits:
    """`cpu_s` is CPU time of one evaluation, `load_s` of loading the policies, `wall_s` the wall clock of
    either, `memory_bytes` address space; `all_s` is CPU time of the whole process (None: as much as it
    wants)."""

    cpu_s: float = 2.0
    load_s: float = 20.0
    wall_s: float = 30.0
    memory_bytes: int = 1 << 30
    all_s: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A rule by its full name, or a query; *document* is the input as JSON, None: none is given."""

    text: str
    document: str | None
    how: Literal["rule", "query"] = "rule"


class _Process(Child):
    script = "apart_child.py"
    called = "the process that evaluates policies"


class EngineApart:
    """Like `Engine`, in a process of its own that `close` ends. Used by one thread at a time."""

    def __init__(self, limits: ApartLimits | None = None) -> None:
        """Start the process; `load` comes next, and may come later.

        Raises:
            PdpError: `pdp_unreachable`.
        """
        self._limits = limits or ApartLimits()
        self._files: dict[str, Any] | None = None
        self._is_loaded = False
        self._covers = False
        self._process: _Process | None = None
        self._started()

    def __enter__(self) -> EngineApart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def load(self, files: Iterable[tuple[str, str]], data: str = "{}", *, is_gated: bool = False) -> None:
        """Hand the policies over, once; what is wrong with them is told by `loaded`, or by what is asked.

        Raises:
            PdpError: `pdp_crashed` or `pdp_timeout`.
        """
        lengths = GATED_LENGTHS if is_gated else None
        self._files = {"do": "load", "files": list(files), "data": data, "lengths": lengths}
        self._tell(self._started(), self._files)

    def loaded(self) -> None:
        """Wait until the policies are loaded.

        Raises:
            EngineError: the engine refuses them.
            PdpError: `pdp_timeout` or `pdp_crashed`.
        """
        self._ready()

    def evaluate(self, rule: str, document: str) -> str:
        """The value of *rule* for the input *document*, as JSON.

        Raises:
            PdpError: `pdp_error`, `pdp_undefined`, `pdp_crashed`, or `pdp_timeout`.
        """
        return self._one(Question(rule, document))

    def evaluate_without_input(self, rule: str) -> str:
        """The value of *rule* where no input was given since `load`. Raises as `evaluate`."""
        return self._one(Question(rule, None))

    def query(self, text: str, document: str) -> str:
        """The result set of a query, as JSON. Raises as `evaluate`, but what is undefined has no results."""
        return self._one(Question(text, document, "query"))

    def each(self, questions: Sequence[Question]) -> Iterator[str | PdpError]:
        """Ask at once; then what is answered to each, in order and as it comes. A `pdp_timeout` or
        `pdp_crashed` is the last answer. Nothing else may be asked before the end of it.

        Raises:
            EngineError: the engine refuses the policies (while iterating).
            PdpError: `pdp_crashed` or `pdp_timeout`: nothing was asked.
        """
        documents = list(dict.fromkeys(q.document for q in questions if q.document is not None))
        places = {document: place for place, document in enumerate(documents)}
        asked = [(q.how, q.text, None if q.document is None else places[q.document]) for q in questions]
        process = self._filled()
        self._tell(process, {"do": "each", "documents": documents, "asked": asked})
        return self._answers(process, questions)

    def _answers(self, process: _Process, questions: Sequence[Question]) -> Iterator[str | PdpError]:
        left = len(questions)
        try:
            self._ready()
            for question in questions:
                try:
                    answer: str | PdpError = _value(question, self._hear(process))
                except PdpError as error:
                    answer = error
                left -= 1
                yield answer
                if self._process is not process:
                    return
        finally:
            if left and self._process is process:
                self.close()  # answers are still to come

    def prints(self) -> list[str]:
        """What `print` wrote since the last time, in the process that there is now."""
        return cast("list[str]", json.loads(self._command("prints")))

    def cover(self) -> None:
        """Take down from now on which lines are evaluated."""
        self._covers = True
        self._command("cover")

    def coverage(self) -> str:
        """As `Engine.coverage`, since the process that there is now was started."""
        return self._command("coverage")

    def close(self) -> None:
        """End the process; a new one is started if something is asked all the same."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def _one(self, question: Question) -> str:
        (answer,) = list(self.each([question]))
        if isinstance(answer, PdpError):
            raise answer
        return answer

    def _command(self, name: str) -> str:
        process = self._ready()
        self._tell(process, {"do": name})
        return self._hear(process)

    def _started(self) -> _Process:
        if self._process is None:
            self._is_loaded = False
            greeting = {
                "path": [entry for entry in sys.path if entry],
                "memory_bytes": self._limits.memory_bytes,
                "cpu_s": int(self._limits.cpu_s) + 2,
                "load_s": int(self._limits.load_s) + 2,
            }
            try:
                self._process = _Process(marshal.dumps(greeting))
            except OSError as error:
                text = f"the process that evaluates policies cannot be started: {error}"
                raise PdpError(text, code="pdp_unreachable") from error
        return self._process

    def _filled(self) -> _Process:
        """The process, with the policies handed over."""
        if self._process is None:
            process = self._started()
            self._tell(process, self._files)
            if self._covers:
                self._ready()
                self._tell(process, {"do": "cover"})
                self._hear(process)
        return self._started()

    def _ready(self) -> _Process:
        """The process, with the policies loaded."""
        process = self._filled()
        if not self._is_loaded:
            try:
                self._hear(process, self._limits.load_s)
            except PdpError as error:
                if error.code == "pdp_error":
                    self.close()
                    raise EngineError(str(error)) from None
                raise
            self._is_loaded = True
        return process

    def _tell(self, process: _Process, what: dict[str, Any] | None) -> None:
        with self._ending(process):
            process.tell(marshal.dumps(what), time.monotonic() + START_S)

    @contextmanager
    def _ending(self, process: _Process) -> Iterator[None]:
        """What fails with *process* ends it."""
        try:
            yield
        except Gone:
            self._process = None
            raise process.ended() from None
        except BaseException:
            self.close()
            raise

    def _hear(self, process: _Process, within_s: float | None = None) -> str:
        """The next answer. Raises PdpError: `pdp_error` is an answer too, any other ends the process."""
        with self._ending(process):
            cpu_until = process.cpu_s() + (self._limits.cpu_s if within_s is None else within_s)
            if self._limits.all_s is not None:
                cpu_until = min(cpu_until, self._limits.all_s)
            answer = process.hear(time.monotonic() + self._limits.wall_s, cpu_until=cpu_until)
            status, text = answer[0], answer[1:].decode(errors="replace")
            if status == _PANIC:
                raise PdpError(f"the policy engine crashed: {text}", code="pdp_crashed")
        if status == _ERROR:
            raise PdpError(plain_message(text), code="pdp_error")
        return text


def _value(question: Question, said: str) -> str:
    if question.how == "rule" and said == UNDEFINED:
        raise PdpError(f"{question.text} is undefined", code="pdp_undefined")
    return said
