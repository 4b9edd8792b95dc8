"""Tools whose body runs confined: a model's Python source, its shell commands, or source of your own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Never

from langchain_core.tools import BaseTool
from pydantic import BaseModel, Field

from fumehood.binding import Bound, define
from fumehood.canonical import parse
from fumehood.guard import Guard
from fumehood.model import Annotations, Confine, Kind, Origin, Runs
from fumehood.sessions import OpenSession
from fumehood_adapters._arguments import arguments_of
from fumehood_adapters._body import Context, Governed, Runner, sealed
from fumehood_adapters._tools import GuardedTool, Notes

if TYPE_CHECKING:
    from fumehood.confine import Outcome

__all__ = ["ConfinedTool", "PythonTool", "ShellTool"]

_PYTHON = (
    "Run Python source in a confined process without network. Only what it prints comes back: "
    "its output, its errors and how it ended."
)
_SHELL = (
    "Run a shell command (sh) in a confined process without network. What comes back: "
    "its output, its errors and how it ended."
)


class PythonArguments(BaseModel):
    """The arguments of `PythonTool`."""

    code: str = Field(description="Python source; print what you want to see.")


class ShellArguments(BaseModel):
    """The arguments of `ShellTool`."""

    command: str = Field(description="A command for sh.")


class PythonTool(GuardedTool):
    """Runs Python source confined, under the strictest of *profile* and the profiles that policy names.

    Args:
        guard: decides each call.
        profile: the loosest confinement that the code ever gets.
        workdir: a host folder that the code sees as its own; none by default.
        timeout_s: wall-clock seconds after which it is killed.
        session: binds the tool to one session.

    Source that fails is a result (its errors and exit status), not a Python error.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        name: str = "python",
        description: str = _PYTHON,
        profile: str = "python-offline",
        workdir: str | os.PathLike[str] | None = None,
        timeout_s: float = 30.0,
        session: OpenSession | None = None,
    ) -> None:
        job = _Job(guard, profile, workdir, timeout_s, of=lambda bound: {"source": _of(bound, "code")})
        super().__init__(name=name, description=description, args_schema=PythonArguments)
        self._seal = sealed(_governed(self, job, session, notes=_executes("code")))


class ShellTool(GuardedTool):
    """Runs a shell command confined, under the strictest of *profile* and the profiles that policy names.

    The arguments are those of `PythonTool`. A command that fails is a result, not a Python error.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        name: str = "shell",
        description: str = _SHELL,
        profile: str = "shell",
        workdir: str | os.PathLike[str] | None = None,
        timeout_s: float = 30.0,
        session: OpenSession | None = None,
    ) -> None:
        job = _Job(
            guard, profile, workdir, timeout_s, of=lambda bound: {"argv": ["sh", "-c", _of(bound, "command")]}
        )
        super().__init__(name=name, description=description, args_schema=ShellArguments)
        self._seal = sealed(_governed(self, job, session, notes=_executes("command")))


class ConfinedTool(GuardedTool):
    """Runs Python *source* of yours confined, for work on files or data that you do not trust.

    Args:
        guard: decides each call.
        source: what runs. It finds the call's arguments in `sys.argv[1]`, as one JSON object; what it prints
            is the result. It runs with the packages of this interpreter, and nothing of this process.
        args_schema: the pydantic model of the arguments.
        profile: the loosest confinement that it ever gets; policy may name a stricter one.
        read: paths of this host that it is shown, read-only. Without one it sees none of your files.
        annotations: as for `guard_tools`; by default the tool executes code.
        timeout_s: wall-clock seconds after which it is killed.
        session: binds the tool to one session.

    Source that fails is a result (its errors and exit status), not a Python error.

    Raises:
        ConfigError: annotations name an argument that *args_schema* does not have.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        name: str,
        description: str,
        args_schema: type[BaseModel],
        source: str,
        profile: str = "python-offline",
        read: Sequence[str | os.PathLike[str]] = (),
        annotations: Notes | None = None,
        timeout_s: float = 30.0,
        session: OpenSession | None = None,
    ) -> None:
        shown = [os.path.abspath(path) for path in read]  # noqa: PTH100 - a path of the host, as text

        def program(bound: Bound) -> dict[str, Any]:
            return {"source": source, "args": [bound.args.decode()], "read": shown}

        job = _Job(guard, profile, None, timeout_s, of=program)
        super().__init__(name=name, description=description, args_schema=args_schema)
        self._seal = sealed(_governed(self, job, session, notes=annotations or _executes()))


class _Form(BaseTool):
    """What LangChain may ask of a confined tool's schema; it has no body of its own."""

    def _run(self) -> Never:
        raise TypeError("a confined tool runs in a process of its own")


@dataclass(frozen=True, slots=True)
class _Job:
    """How a confined tool's calls run; `of` makes the program out of what was bound."""

    guard: Guard
    profile: str
    workdir: str | os.PathLike[str] | None
    timeout_s: float
    of: Callable[[Bound], dict[str, Any]]

    def __post_init__(self) -> None:
        """A folder that holds the ledger or the policies is refused here, not at the first call."""
        if self.workdir is not None:
            from fumehood.confine.profile import checked_path

            checked_path(os.path.abspath(self.workdir), forbidden_paths=self.guard.protected_paths)  # noqa: PTH100

    def run(self, bound: Bound, _: dict[str, Any], confinements: tuple[Confine, ...], __: Context) -> object:
        from fumehood.confined import run_confined

        return _text(run_confined(self.guard, **self._wanted(bound, confinements)))

    async def arun(
        self, bound: Bound, _: dict[str, Any], confinements: tuple[Confine, ...], __: Context
    ) -> object:
        from fumehood.confined import arun_confined

        return _text(await arun_confined(self.guard, **self._wanted(bound, confinements)))

    def _wanted(self, bound: Bound, confinements: tuple[Confine, ...]) -> dict[str, Any]:
        return {
            **self.of(bound),
            "profile": self.profile,
            "confinements": confinements,
            "workdir": self.workdir,
            "timeout_s": self.timeout_s,
        }


def _of(bound: Bound, name: str) -> object:
    """The argument *name* in the document that was decided."""
    arguments = parse(bound.args)
    return arguments[name] if isinstance(arguments, dict) else None


def _executes(*content: str) -> Annotations:
    return Annotations(kind=Kind.EXECUTE, content=content, result=Origin.UNTRUSTED)


def _governed(tool: BaseTool, job: _Job, session: OpenSession | None, *, notes: Notes) -> Governed:
    form = _Form(name=tool.name, description=tool.description, args_schema=tool.args_schema)
    arguments = arguments_of(form)
    definition = define(
        tool.name,
        description=tool.description,
        schema=arguments.schema,
        annotations=notes,
        runs=Runs.CONFINED,
    )
    return Governed(job.guard, session, definition, arguments, Runner(job.run, job.arun, True), form)


def _text(outcome: Outcome) -> str:
    """Output, errors and the way it ended, as text for the model."""
    streams = [outcome.stdout.decode("utf-8", "replace")]
    errors = outcome.stderr.decode("utf-8", "replace")
    if errors:
        streams.append(f"[stderr]\n{errors}")
    shown = [s if s.endswith("\n") else s + "\n" for s in streams if s]
    return "".join([*shown, f"[{_ending(outcome)}]"])


def _ending(outcome: Outcome) -> str:
    if outcome.exit.kind == "exited":
        return f"exit code {outcome.exit.code}"
    return f"ended by: {outcome.exit.kind}" + (f" {outcome.exit.code}" if outcome.exit.code else "")
