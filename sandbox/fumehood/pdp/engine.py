"""The only module of this process that knows regorus (Microsoft's Rego engine).

An engine belongs to the thread that made it; from any other it panics. Everything that regorus
raises, panics (which are BaseException) included, leaves here as a PdpError or an EngineError.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

import regorus

from fumehood.errors import FumehoodError, PdpError

if TYPE_CHECKING:
    from fumehood.canonical import JSON

__all__ = ["GATED_LENGTHS", "UNDEFINED", "Engine", "EngineError", "plain_message", "syntax_trees"]

# What regorus accepts of one file; its defaults (1,024 columns, 20,000 lines, 1 MiB) hold for the author's.
GATED_LENGTHS = {"max_col": 1 << 16, "max_file_bytes": 8 << 20, "max_lines": 40_000}
UNDEFINED = '"<undefined>"'


class EngineError(FumehoodError):
    """regorus refused a text or an evaluation; the message is regorus' own, without its stack."""


def plain_message(error: object) -> str:
    """What regorus said, without the stack that it appends where RUST_BACKTRACE is set."""
    return str(error).split("Stack backtrace:")[0].strip()


class Engine:
    """One regorus engine with its policies loaded. To be used by the thread that made it only."""

    def __init__(self, files: Iterable[tuple[str, str]], data: str = "{}", *, is_gated: bool = False) -> None:
        """*is_gated*: the texts passed the gate and were written out, so that their lines may be longer."""
        self._thread = threading.get_ident()
        self._engine = regorus.Engine()
        self._engine.set_gather_prints(True)
        if is_gated:
            self._engine.set_policy_length_config(**GATED_LENGTHS)
        try:
            for name, text in files:
                self._engine.add_policy(name, text)
            self._engine.add_data_json(data)
        except Exception as error:
            raise EngineError(plain_message(error)) from error

    def evaluate(self, rule: str, document: str) -> str:
        """The value of *rule* for the input *document*, as JSON.

        Raises:
            PdpError: `pdp_error`, `pdp_undefined`, or `pdp_crashed`: then throw this engine away.
        """
        return self._defined(rule, self._guarded(self._engine.eval_rule_as_json, rule, document))

    def evaluate_without_input(self, rule: str) -> str:
        """The value of *rule* where no input was given since this engine was made. Raises as `evaluate`."""
        return self._defined(rule, self._guarded(self._engine.eval_rule_as_json, rule, None))

    def query(self, text: str, document: str) -> str:
        """The result set of a query, as JSON. Raises as `evaluate`, but what is undefined has no results."""
        return self._guarded(self._engine.eval_query_as_json, text, document)

    def _defined(self, rule: str, answer: str) -> str:
        if answer == UNDEFINED:
            raise PdpError(f"{rule} is undefined", code="pdp_undefined")
        return answer

    def _guarded(self, ask: Callable[[str], object], text: str, document: str | None) -> str:
        try:
            if document is not None:
                self._engine.set_input_json(document)
            return cast("str", ask(text))
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except Exception as error:
            raise PdpError(plain_message(error), code="pdp_error") from error
        except BaseException as error:  # a panic of the Rust engine
            raise PdpError(f"the policy engine crashed: {error}", code="pdp_crashed") from error

    def prints(self) -> list[str]:
        """What `print` wrote since the last time."""
        return cast("list[str]", self._engine.take_prints())

    def cover(self) -> None:
        """Take down from now on which lines are evaluated."""
        self._engine.set_enable_coverage(True)

    def coverage(self) -> str:
        """`{"files": [{"path", "covered": [line], "not_covered": [line]}]}`, as JSON."""
        return cast("str", self._engine.get_coverage_report_as_json())

    def syntax_trees(self) -> str:
        """The syntax trees of all files, as JSON."""
        return cast("str", self._engine.get_ast_as_json())

    def __del__(self) -> None:
        # Dropped by another thread, regorus would raise into nowhere: leave that engine where it is.
        engine = self.__dict__.get("_engine")
        if engine is not None and threading.get_ident() != self._thread:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))


def syntax_trees(name: str, text: str) -> JSON:
    """The syntax tree of one file.

    Raises:
        EngineError: it does not parse.
    """
    import json

    engine = Engine([(name, text)])
    return cast("JSON", json.loads(engine.syntax_trees())[0]["ast"])
