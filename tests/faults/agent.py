"""The agent that gets killed: makes calls 0 … N-1 of a tool with a side effect, each with its own call id,
and after a restart makes them all again. Run as: agent.py POLICIES LEDGER EFFECTS COUNT TIER."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fumehood import Denied, FumehoodError, Guard
from fumehood.binding import Bound, define
from fumehood.confined import run_confined
from fumehood.functions import FunctionBody, FunctionTool, tool_of
from fumehood.model import Confine, Kind, Runs
from fumehood.shell import current_call


def append(n: int, effects: str) -> str:
    """One line with one write: the side effect. It names the attempt that made it."""
    shell = current_call()
    assert shell is not None and shell.call is not None
    line = f"{n} {shell.call.attempt_id}\n".encode()
    time.sleep(random.uniform(0.0, 0.02))
    fd = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, line)
    os.close(fd)
    time.sleep(random.uniform(0.0, 0.02))
    return f"did {n}"


def compute(n: int) -> str:
    """Runs confined; see `ConfinedBody`."""
    return str(n)


@dataclass(frozen=True, slots=True)
class ConfinedBody(FunctionBody):
    """A body that runs a little program confined."""

    guard: Guard | None = None
    tier: str = "full"

    def run(self, bound: Bound, confinements: tuple[Confine, ...], /) -> object:
        assert self.guard is not None
        source = "import time; time.sleep(0.01); print('computed')"
        outcome = run_confined(self.guard, profile="python-offline", confinements=confinements, source=source)
        return f"{outcome.exit.kind} {outcome.stdout.decode()}"


def confined_tool() -> FunctionTool:
    tool = tool_of(compute)
    definition = define(
        "compute",
        schema={"properties": {"n": {}}},
        annotations={"kind": Kind.EXECUTE.value},
        runs=Runs.CONFINED,
    )
    return replace(tool, definition=definition)


def main(policies: str, ledger: str, effects: str, count: int, tier: str) -> None:
    tool = confined_tool()
    with Guard(Path(policies), ledger=ledger, tier=tier) as guard:  # type: ignore[arg-type]
        print("ready", flush=True)
        with guard.session(agent="killed", id="one-run"):
            for n in range(count):
                attempt(guard, n, effects)
                if n % 5 == 0:
                    arguments: Mapping[str, object] = {"n": n}
                    body = ConfinedBody(tool, lambda a=arguments: a, f"k{n}", guard, tier)  # type: ignore[misc]
                    tolerate(lambda b=body: guard.enforce(b))  # type: ignore[misc]
    print("finished", flush=True)


def attempt(guard: Guard, n: int, effects: str) -> None:
    arguments = {"n": n, "effects": effects}
    tolerate(lambda: guard.call("append", arguments, run=append, call_id=f"c{n}"))


def tolerate(call: object) -> None:
    """A refusal (a killed worker, an outcome that is unknown) is an answer; try a second time, then go on."""
    for _ in range(2):
        try:
            call()  # type: ignore[operator]
        except Denied:
            continue
        except FumehoodError:
            return
        return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
