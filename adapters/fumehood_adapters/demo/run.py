"""Starts the agents and whoever decides, beside each other, and hands on what they tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Self

from fumehood.errors import FumehoodError
from fumehood_adapters.demo import operator
from fumehood_adapters.demo.place import Place

if TYPE_CHECKING:
    from fumehood.ledger import Ledger

__all__ = ["Told", "Troupe", "watched_by_a_person"]

DEADLINE_S = 90.0  # nobody is asked who could need longer
READY_S = 30.0
_GRACE_S = 10.0
_STEP_S = 0.1

Line = dict[str, Any]


@dataclass(slots=True)
class Told:
    """What the children told so far: the session of each story, and whether all were played."""

    sessions: dict[str, str] = field(default_factory=dict)
    is_ready: threading.Event = field(default_factory=threading.Event)
    is_over: bool = False

    def hear(self, line: Line) -> None:
        if line["what"] == "begin":
            self.sessions[line["story"]] = line["session"]
        elif line["what"] == "ready":
            self.is_ready.set()
        elif line["what"] == "over":
            self.is_over = True


class Troupe:
    """The agents' process, and the operator's if there is one; both end when this is left.

    Neither descends from the other: a process may not decide what its own descendant's request is.
    """

    def __init__(self, place: Place, stage: Mapping[str, Any], *, reasons: Mapping[str, str] | None) -> None:
        read, write = os.pipe()
        self._lines: IO[str] = os.fdopen(read)
        with place.log.open("ab") as log:
            self._agents = _started("agents", stage, write, log)
            wanted = {"ledger": place.ledger, "reasons": reasons}
            self._operator = None if reasons is None else _started("operator", wanted, write, log)
        os.close(write)
        threading.Thread(target=self._end_operator, daemon=True).start()

    @property
    def is_playing(self) -> bool:
        return self._agents.poll() is None

    def lines(self) -> Iterator[Line]:
        """What is told, until everybody has gone."""
        for line in self._lines:
            yield _read(line)

    def end_after(self, patience_s: float) -> None:
        """End the agents if they still play then."""
        timer = threading.Timer(patience_s, self.let_go)
        timer.daemon = True
        timer.start()

    def let_go(self) -> None:
        """End the agents; what they wait for is cancelled."""
        _let_go(self._agents)

    def _end_operator(self) -> None:
        self._agents.wait()
        if self._operator is not None:
            _let_go(self._operator)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in filter(None, (self._agents, self._operator)):
            _let_go(child)
            _ended(child)
        self._lines.close()


def _started(name: str, given: Mapping[str, Any], told: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    # -P: nothing in the current folder may stand for a module of ours
    command = [sys.executable, "-P", "-m", f"fumehood_adapters.demo.{name}", json.dumps(given)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=told, stderr=log)


def _let_go(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None:
        child.stdin.close()


def _ended(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _read(line: str) -> Line:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) and "what" in found else {"what": "text", "text": line.rstrip()}


def watched_by_a_person(troupe: Troupe, told: Told, ledger: Ledger) -> int:
    """Open the terminal UI until the person quits; how many calls they left waiting (those are cancelled).

    The UI is opened as soon as the agents are ready to play.

    Raises:
        FumehoodError: the terminal UI failed.
    """
    listening = threading.Thread(target=_hear, args=(troupe, told), daemon=True)
    listening.start()
    give_up_at = time.monotonic() + READY_S
    while troupe.is_playing and time.monotonic() < give_up_at and not told.is_ready.wait(_STEP_S):
        pass
    ended = subprocess.run([*operator.COMMAND, "tui", "--ledger", ledger.path], check=False)
    if ended.returncode:
        raise FumehoodError(f"the terminal UI ended with exit code {ended.returncode}")
    left = _left_waiting(troupe, told, ledger)
    listening.join(_GRACE_S)
    return left


def _hear(troupe: Troupe, told: Told) -> None:
    for line in troupe.lines():
        told.hear(line)


def _left_waiting(troupe: Troupe, told: Told, ledger: Ledger) -> int:
    """Let the agents finish, unless they wait for the person who has gone, or take too long."""
    give_up_at = time.monotonic() + DEADLINE_S
    while troupe.is_playing and time.monotonic() < give_up_at:
        waiting = [a for a in ledger.approvals() if a.session_id in told.sessions.values()]
        if waiting:
            troupe.let_go()
            return len(waiting)
        time.sleep(_STEP_S)
    return 0
