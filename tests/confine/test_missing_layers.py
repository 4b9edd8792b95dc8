"""Each layer that this host might not give, taken away alone: nothing ran, nobody is left, and it is named.

What the doctor says about such a host is what a job is then refused for.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from host import require

from confine.missing import HARNESS
from fumehood.confine import layers, syscalls
from fumehood.confine.layers import REMEDIES

Runner = Callable[..., "subprocess.CompletedProcess[str]"]
NO_MOUNTS = {"full": "rootfs", "no-userns": ""}
NOT_GIVEN_UP = {"full": "capabilities", "no-userns": ""}
#: Calls (with arguments by number), and the layer that each tier is refused for; "" where it goes on.
CASES: dict[str, dict[str, str]] = {
    "unshare": {"full": "user-ns", "no-userns": ""},
    "mount": NO_MOUNTS,
    "umount2": NO_MOUNTS,
    "pivot_root": NO_MOUNTS,
    "open_tree": NO_MOUNTS,
    "move_mount": NO_MOUNTS,
    "mount_setattr": NO_MOUNTS,
    "unshare,mount,pivot_root": {"full": "user-ns", "no-userns": ""},
    "sethostname": {"full": "uts-ns", "no-userns": ""},
    "landlock_create_ruleset": {"full": "landlock", "no-userns": "landlock"},
    "landlock_add_rule": {"full": "landlock", "no-userns": "landlock"},
    "landlock_restrict_self": {"full": "landlock", "no-userns": "landlock"},
    "seccomp": {"full": "seccomp", "no-userns": "seccomp"},
    "capset": {"full": "capabilities", "no-userns": "capabilities"},
    "prctl 0=38": {"full": "no-new-privs", "no-userns": "no-new-privs"},
    "prctl 0=24": NOT_GIVEN_UP,  # PR_CAPBSET_DROP
    "prctl 0=28": NOT_GIVEN_UP,  # PR_SET_SECUREBITS
    "prctl 0=47": NOT_GIVEN_UP,  # PR_CAP_AMBIENT
    "prlimit64": {"full": "rlimits", "no-userns": "rlimits"},
    "prctl 0=1": {"full": "supervisor", "no-userns": "supervisor"},  # PR_SET_PDEATHSIG
    "prctl 0=36": {"full": "supervisor", "no-userns": "supervisor"},  # PR_SET_CHILD_SUBREAPER
    "pidfd_open": {"full": "supervisor", "no-userns": "supervisor"},
    "memfd_create": {"full": "supervisor", "no-userns": "supervisor"},
    "close_range": {"full": "supervisor", "no-userns": "supervisor"},
}
#: Under a profile that starts no other program: its one program is started through the supervisor.
ONE_PROGRAM = {"seccomp": "observe"}
TIERS = ("full", "no-userns")
ANSWERS = ("EPERM", "ENOSYS")
_BATCH = 12


@dataclass(eq=False)
class Case:
    """One host, one question to it, and what came of it."""

    calls: str
    answer: str
    tier: str
    how: str
    profile: str = "python-offline"
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def is_quick(self) -> bool:
        return self.answer != "ENOSYS" and (self.profile != "strictest" or self.calls in ("", *ONE_PROGRAM))

    @property
    def layer(self) -> str:
        if self.answer == "NOTIFY":
            return "observe"
        special = ONE_PROGRAM if self.profile == "strictest" else {}
        return special.get(self.calls) or CASES[self.calls][self.tier]

    def asked(self) -> dict[str, Any]:
        calls = self.calls.split(",") if self.calls else []
        return {
            "calls": calls,
            "answer": self.answer,
            "tier": self.tier,
            "how": self.how,
            "profile": self.profile,
        }

    def parameter(self) -> Any:
        words = (self.calls or "nothing", self.tier, self.how, self.profile, self.answer)
        return pytest.param(self, id="-".join(words), marks=() if self.is_quick else pytest.mark.slow)


JOBS = [Case(c, a, t, "source") for t in TIERS for c in CASES for a in ANSWERS]
JOBS += [Case(c, "EPERM", t, "argv", "strictest") for t in TIERS for c in CASES]
#: Only one listener may exist among a process's filters: a surrounding one takes ours away.
JOBS += [Case("acct", "NOTIFY", tier, "source", "model-loader") for tier in TIERS]
CONTROLS = [Case("", "EPERM", t, h, "strictest") for t in TIERS for h in ("source", "argv", "command")]
COMMANDS = [
    Case(calls, "EPERM", "full", "command")
    for calls in ("unshare", "pivot_root", "landlock_restrict_self", "seccomp", "prctl 0=38", "prlimit64")
]
DOCTORS = [Case(calls, answer, "full", "doctor") for calls in CASES for answer in ANSWERS]
#: A surrounding filter that kills whoever asks, rather than answering.
KILLED = "unshare mount pivot_root move_mount landlock_restrict_self capset pidfd_open close_range"
KILLS = [Case(calls, "KILL", tier, "source") for tier in TIERS for calls in KILLED.split()]
#: A program that is started in its template's memory, which says what it came to.
KILLS += [Case(call, "KILL", "full", "argv", "model-loader") for call in ("capset", "landlock_restrict_self")]
#: Refused when the last layer is on, and the program not yet started.
LATE = [Case("dup3", "EPERM", "full", "argv", profile) for profile in ("shell", "python-offline")]
EVERY = [*JOBS, *LATE, *KILLS, *CONTROLS, *COMMANDS, *DOCTORS]

Ask = Callable[[Case], dict[str, Any]]


def each(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", [case.parameter() for case in cases])


@pytest.fixture(scope="module")
def ask(as_ordinary_user: Runner) -> Ask:
    """What came of a case. A dozen are asked in one harness, this one first."""
    require("userns")
    require("landlock")

    def found(case: Case) -> dict[str, Any]:
        if not case.found:
            waiting = [one for one in EVERY if not one.found and one.is_quick == case.is_quick]
            _fill([case, *(one for one in waiting if one is not case)][:_BATCH], as_ordinary_user)
        return case.found

    return found


def _fill(part: list[Case], as_ordinary_user: Runner) -> None:
    with tempfile.TemporaryDirectory(prefix="missing-") as folder:  # not pytest's: others may enter this one
        Path(folder).chmod(0o777)
        done = as_ordinary_user(HARNESS, json.dumps([one.asked() for one in part]), folder)
    lines = done.stdout.splitlines()
    assert len(lines) == len(part), done.stderr
    for one, line in zip(part, lines, strict=True):
        one.found = json.loads(line)


@each(EVERY)
def test_whatever_is_missing_nobody_survives_and_nothing_is_left(case: Case, ask: Ask) -> None:
    found = ask(case)
    assert "hung" not in found, found
    assert (found["survivors"], found["left"]) == ([], [])


@each([case for case in JOBS if case.layer])
def test_without_a_layer_nothing_ran(case: Case, ask: Ask) -> None:
    found = ask(case)
    assert not found["ran"], found
    assert found.get("exit") != ["exited", 0], found


@each([case for case in JOBS if case.layer])
def test_a_missing_layer_is_named_with_its_remedy(case: Case, ask: Ask) -> None:
    found = ask(case)
    assert found.get("layer") == case.layer, found
    assert found["remedy"] == REMEDIES[case.layer]
    assert f"(layer: {case.layer})" in found["text"]


@each(KILLS)
def test_where_asking_is_deadly_nothing_ran_either(case: Case, ask: Ask) -> None:
    found = ask(case)
    if case.layer:
        assert not found["ran"], found
        assert found.get("layer") in ("jail", "supervisor"), (
            found
        )  # the kernel's word: killed while it was made
    else:
        assert (found.get("exit"), found["ran"]) == (["exited", 0], True), found


@each(LATE)
def test_what_is_refused_after_the_last_layer_is_named_too(case: Case, ask: Ask) -> None:
    found = ask(case)
    assert (found.get("layer"), found["ran"]) == ("supervisor", False), found


def test_each_layer_that_a_step_belongs_to_has_a_remedy() -> None:
    code = "".join(path.read_text() for path in Path(layers.__file__).parent.glob("*.py"))
    named = re.findall(r"calls\.add\(\s*\"([a-z-]+)\"", code)
    assert len(named) > 40
    assert set(named) <= set(REMEDIES)


@each([case for case in JOBS if not case.layer])
def test_a_tier_that_does_not_use_the_layer_goes_on(case: Case, ask: Ask) -> None:
    found = ask(case)
    assert found.get("exit") == ["exited", 0], found
    assert found["ran"]


@each(CONTROLS)
def test_with_nothing_missing_the_same_job_leaves_its_mark(case: Case, ask: Ask) -> None:
    found = ask(case)
    assert found.get("exit", ["exited", found.get("status")]) == ["exited", 0], found
    assert found["ran"]


@each(COMMANDS)
def test_the_command_answers_four(case: Case, ask: Ask) -> None:
    found = ask(case)
    assert (found.get("status"), found["ran"]) == (4, False), found


@each(DOCTORS)
def test_the_doctor_finds_the_layer_that_jobs_are_refused_for(case: Case, ask: Ask) -> None:
    found = ask(case)
    for tier in TIERS:
        layer = CASES[case.calls][tier]
        assert (layer in found[tier]) if layer else found[tier] == [], (tier, found)


_NO_PROCESS = """
import sys
from fumehood import confine
from fumehood.confine import syscalls
from fumehood.confine.seccomp import Answer, Match, Rule, compile_rules
from fumehood.errors import ConfinementError

syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
refused = Rule("clone", Answer.EPERM, (Match(0, int(sys.argv[1])),))
syscalls.load_filter(compile_rules((refused,), default=Answer.ALLOW))
for options in ({}, {"workdir": sys.argv[2]}):
    for number in range(2):
        try:
            print(confine.python("print(1)", tier=sys.argv[3], **options))
        except ConfinementError as error:
            print(error.layer, error)
"""


@pytest.mark.parametrize("tier", TIERS)
def test_a_process_that_could_not_be_made_is_missed_at_once(tier: str, as_ordinary_user: Runner) -> None:
    """Whoever waits for a clone is told of its failure as of its success: by the same step."""
    flags = syscalls.CLONE_PARENT | syscalls.CLONE_PIDFD | signal.SIGCHLD
    with tempfile.TemporaryDirectory(prefix="missing-") as folder:
        Path(folder).chmod(0o777)
        done = as_ordinary_user(_NO_PROCESS, str(int(flags)), folder, tier)
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    for line in lines:
        assert line.startswith("processes this host refused: [Errno 1] clone: Operation not permitted"), lines
