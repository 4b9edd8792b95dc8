"""The errors that Fumehood raises, and nothing else.

    FumehoodError
    ├─ Denied             the system worked, nothing ran; carries the decision
    ├─ Withheld           the tool ran, its result is not released; never retryable
    ├─ BindError          the arguments cannot be bound to one canonical document
    ├─ ConfigError        names file, key, line, column
    ├─ PdpError           the policy engine was unreachable, late or malformed
    ├─ LedgerError        it could not be recorded
    ├─ ConfinementError   the host or the kernel refused; names the layer and the remedy
    └─ JobFailed          what ran confined failed, or was ended; nothing of it is released

A library's own errors are mapped to these in the one file that imports the library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fumehood.model import Decision

__all__ = [
    "BindError",
    "ConfigError",
    "ConfinementError",
    "Denied",
    "FumehoodError",
    "JobFailed",
    "LedgerError",
    "PdpError",
    "Problem",
    "Withheld",
]


class FumehoodError(Exception):
    """Base of every error of this package."""


class Denied(FumehoodError):
    """The call was refused. Nothing ran.

    `decision` says why. `code` is the first reason's code: a policy's refusal is
    `denied_by_policy`, a person's `denied_by_person`, and `approval_expired`,
    `approval_cancelled`, `nobody_to_ask`, `stopped`, `limit_exceeded`, `pdp_*`,
    `ledger_*`, `bad_arguments` are outcomes of their own.
    """

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        super().__init__(decision.explain())

    @property
    def code(self) -> str:
        """The code of the first reason."""
        return self.decision.reasons[0].code if self.decision.reasons else "denied"

    @property
    def retryable(self) -> bool:
        """True only if every reason says that the same call may succeed later."""
        return bool(self.decision.reasons) and all(r.retryable for r in self.decision.reasons)


class Withheld(FumehoodError):
    """The tool ran; its result is not released. Trying again would run it again."""

    retryable = False

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        super().__init__(
            "the tool ran, but its result is withheld; do not call it again: " + decision.explain()
        )

    @property
    def code(self) -> str:
        """The code of the first reason."""
        return self.decision.reasons[0].code if self.decision.reasons else "withheld"


class BindError(FumehoodError):
    """Arguments do not survive being bound to one canonical document.

    `pointer` is the JSON Pointer (RFC 6901) of the offending argument.
    """

    def __init__(self, message: str, *, pointer: str = "") -> None:
        self.pointer = pointer
        super().__init__(message if pointer in message else f"{message} (at {pointer})")


class Problem(NamedTuple):
    """One finding about a file: where (1-based line and column), what, and what to write instead."""

    file: str
    line: int
    column: int
    message: str
    remedy: str = ""
    source_line: str = ""

    def __str__(self) -> str:
        head = f"{self.file}:{self.line}:{self.column}: {self.message}"
        caret = f"\n    {self.source_line}\n    {' ' * (self.column - 1)}^" if self.source_line else ""
        return head + caret + (f"\n  {self.remedy}" if self.remedy else "")


class ConfigError(FumehoodError):
    """Configuration or policy is not usable; nothing was started.

    `problems` lists each finding with file, line and column where there is one.
    """

    def __init__(self, message: str, *, problems: tuple[Problem, ...] = ()) -> None:
        self.problems = problems
        super().__init__("\n".join([message, *map(str, problems)]))


class PdpError(FumehoodError):
    """The policy engine gave no usable answer. `code` is one of the `pdp_*` reason codes."""

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)


class LedgerError(FumehoodError):
    """The ledger cannot be used. `code` is one of the `ledger_*` reason codes."""

    def __init__(self, message: str, *, code: str = "ledger_error") -> None:
        self.code = code
        super().__init__(message)


class ConfinementError(FumehoodError):
    """This host cannot confine as asked. Names the `layer` that is missing and the `remedy`."""

    def __init__(self, message: str, *, layer: str, remedy: str) -> None:
        self.layer = layer
        self.remedy = remedy
        super().__init__(f"{message} (layer: {layer}). {remedy}")


class JobFailed(FumehoodError):
    """A function that ran confined gave no result.

    `kind` is `raised` (it raised an exception), `import` (its module could not be imported inside),
    `not_json` (what it returned is not JSON), `no_result` (it ended before it returned), or the kernel's or
    the supervisor's word for how it was ended: `deadline`, `memory`, … (see `fumehood.confine.Exit`).

    `type_name` and `text` are the name and the words of the exception, `printed` the end of what was printed.
    All three come from inside the confinement: text that whoever was in there chose, never an object.
    """

    def __init__(
        self, message: str, *, kind: str, type_name: str = "", text: str = "", printed: str = ""
    ) -> None:
        self.kind = kind
        self.type_name = type_name
        self.text = text
        self.printed = printed
        super().__init__(message)
