"""The opa binary, where there is one: the same tests, cases and checks by the other engine."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from fumehood.canonical import JSON
from fumehood.errors import ConfigError, PdpError, Problem
from fumehood.pdp import gate, sources
from fumehood.pdp.decision import decision_from
from fumehood.pdp.document import PolicyDocument
from fumehood.workbench.answers import Answer, answer_of, failure_of

__all__ = ["OpaBinary", "OpaJudge", "find_opa"]

VARIABLE = "FUMEHOOD_OPA"
_TIMEOUT_S = 120.0
_EVALUATING_S, _EACH_S = 3.0, 0.01  # for one evaluation, and more for each document in it
_AT_ONCE = 500  # documents in one evaluation
_PLACE = re.compile(r"\A(?P<file>.*?):(?P<line>\d+)(?::(?P<column>\d+))?\Z")
_QUERY = (
    "x := [d | some document in input; d := [r | r := data.fumehood.main.decision with input as document]]"
)
_TOO_OLD = "OPA 1.0 or newer is needed"
Document = dict[str, JSON]


def find_opa(given: str | None) -> str | None:
    """The opa binary: *given*, else $FUMEHOOD_OPA, else on PATH; None if there is none.

    Raises:
        ConfigError: what was given cannot be run.
    """
    named = given or os.environ.get(VARIABLE)
    found = shutil.which(named or "opa")
    if named and not found:
        raise ConfigError(f"{named} cannot be run; give the path of the opa binary, or leave it out")
    return found


class OpaBinary:
    """One opa binary, and policies that have passed the gate as files that it can read."""

    def __init__(self, path: str, verdict: gate.Verdict, tests: Sequence[sources.PolicyFile] = ()) -> None:
        self._path = path
        self._data = json.dumps(verdict.data)
        library = [(file, str(Path(file.path))) for file in sources.library()]
        own = [(m.file, m.file.path) for m in verdict.modules] + [(file, file.path) for file in tests]
        self._files = [(file.text, shown) for file, shown in (*library, *own)]
        self._library = {shown for _, shown in library}

    def test(self) -> list[Document]:
        """What `opa test` says of each test, `file` being the author's own.

        Raises:
            ConfigError: it does not run.
        """
        with self._folder() as folder:
            answer = self._run(["test", "-v", "--format", "json", "--timeout", "5s", "."], folder)
        rows = self._parsed(answer, "opa test")
        with _understood("opa test"):
            return [self._row(row) for row in cast("list[Document]", rows or [])]

    def check(self, *, is_strict: bool) -> list[Problem]:
        """What `opa check` says, the policy input's schema included.

        Raises:
            ConfigError: it does not run.
        """
        with self._folder() as folder:
            schema = folder.parent / "input.json"
            schema.write_text(json.dumps(PolicyDocument.model_json_schema()))
            command = ["check", "--max-errors", "0", "--format", "json", "--schema", str(schema)]
            answer = self._run([*command, *(["--strict"] if is_strict else []), "."], folder)
        if answer.returncode == 0:
            return []
        said = cast("Document", self._parsed(answer, "opa check"))
        with _understood("opa check"):
            found = list(self._problems(cast("list[Document]", said.get("errors") or [])))
        if not found:
            raise ConfigError(f"opa check failed: {_end(answer)}")
        return found

    def decisions(self, documents: Sequence[Document]) -> list[list[JSON]] | PdpError:
        """What `fumehood.main.decision` is for each, [] where undefined; or an error about one of them."""
        with self._folder() as folder:
            (folder.parent / "documents.json").write_text(json.dumps(documents))
            within_s = _EVALUATING_S + _EACH_S * len(documents)
            command = ["eval", "--timeout", f"{within_s}s", "--strict-builtin-errors"]
            command += ["--format", "json", "--data", "."]
            answer = self._run([*command, "--input", "../documents.json", _QUERY], folder)
        said = cast("Document", self._parsed(answer, "opa eval"))
        with _understood("opa eval"):
            if "errors" in said:
                return _error(cast("list[Document]", said["errors"]), within_s)
            (result,) = cast("list[Document]", said["result"])
            found = cast("list[list[JSON]]", cast("Document", result["bindings"])["x"])
            if len(found) != len(documents):
                raise ValueError(f"{len(found)} decisions about {len(documents)} inputs")
        return found

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """The files, numbered: a file's place in the list is its name."""
        with tempfile.TemporaryDirectory(prefix="fumehood-opa-") as outer:
            folder = Path(outer) / "files"
            folder.mkdir()
            for number, (text, _) in enumerate(self._files):
                (folder / f"{number}.rego").write_text(text, encoding="utf-8")
            (folder / "data.json").write_text(self._data, encoding="utf-8")
            yield folder

    def _run(self, arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                [self._path, *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"{self._path} cannot be run: {error}") from error

    def _parsed(self, answer: subprocess.CompletedProcess[bytes], what: str) -> JSON:
        for stream in (answer.stdout, answer.stderr):
            try:
                return cast("JSON", json.loads(stream))
            except (ValueError, RecursionError):
                continue
        raise ConfigError(f"{what} failed ({_TOO_OLD}): {_end(answer)}")

    def _shown(self, name: str) -> str:
        """The author's own path for a numbered file."""
        stem = Path(name).stem
        return self._files[int(stem)][1] if stem.isdigit() and int(stem) < len(self._files) else name

    def _row(self, row: Document) -> Document:
        place = cast("Document", row.get("location") or {})
        output = row.get("output")
        text = base64.b64decode(output).decode(errors="replace") if isinstance(output, str) else ""
        return {**row, "file": self._shown(str(place.get("file", ""))), "output": text}

    def _problems(self, errors: Sequence[Document]) -> Iterator[Problem]:
        for error in errors:
            place = cast("Document", error.get("location") or {})
            shown = self._shown(str(place.get("file", "")))
            line, column = int(str(place.get("row", 1))), int(str(place.get("col", 1)))
            message = f"opa check: {error.get('message')}{_details(error)}"
            lines = next((t for t, path in self._files if path == shown), "").split("\n")
            source = lines[line - 1].replace("\t", " ") if 0 < line <= len(lines) else ""
            yield Problem(shown, line, column, message, "Correct it: an OPA server would refuse it.", source)


class OpaJudge:
    """Decides with the opa binary: many documents in one evaluation, one by one where one is an error."""

    name = "opa"

    def __init__(self, binary: OpaBinary) -> None:
        self._binary = binary

    def answers(self, documents: Sequence[Document]) -> list[Answer]:
        parts = [documents[at : at + _AT_ONCE] for at in range(0, len(documents), _AT_ONCE)]
        return [answer for part in parts for answer in self._part(part)]

    def _part(self, documents: Sequence[Document]) -> list[Answer]:
        found = self._binary.decisions(documents)
        if not isinstance(found, PdpError):
            return list(map(_answer, found))
        if len(documents) == 1:
            return [failure_of(found)]
        half = len(documents) // 2  # one of them is an error, and hides the others
        return [*self._part(documents[:half]), *self._part(documents[half:])]


@contextmanager
def _understood(what: str) -> Iterator[None]:
    """Around reading an answer: one of another shape is a ConfigError, not a stack trace."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{what} answered something that is not understood: {error}") from error


def _answer(found: list[JSON]) -> Answer:
    try:
        if not found:
            raise PdpError("there is no decision: undefined", code="pdp_undefined")
        return answer_of(decision_from(found[0]))
    except PdpError as error:
        return failure_of(error)


def _error(errors: Sequence[Document], within_s: float) -> PdpError:
    if any(error.get("code") == "eval_cancel_error" for error in errors):
        return PdpError(f"OPA took more than {within_s:g} s, and was ended", code="pdp_timeout")
    return PdpError("; ".join(str(error.get("message")) for error in errors), code="pdp_error")


def _details(error: Document) -> str:
    details = error.get("details")
    if not isinstance(details, dict):
        return ""
    wanted = details.get("oneOf")
    return f"; expected one of {', '.join(map(str, wanted))}" if isinstance(wanted, list) else ""


def _end(answer: subprocess.CompletedProcess[bytes]) -> str:
    return (answer.stderr or answer.stdout).decode(errors="replace").strip()[-500:]
