"""The doctor on this host, and on hosts that namespaces, limits and filters make of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from host import require

Runner = Callable[..., "subprocess.CompletedProcess[str]"]

#: What to make of this host first, as an ordinary user; then what is found, and what becomes of a job.
SCRIPT = """
import json, os, resource, sys
import fumehood.confine.prepare  # loaded while this is still possible
from fumehood import confine
from fumehood.confine import diagnosis, doctor, syscalls
from fumehood.confine.probes_process import _program
from fumehood.confine.seccomp import Answer, Match, Rule, compile_rules
from fumehood.errors import ConfinementError

def write(path, text):
    with open(path, "w") as file: file.write(text)

def namespaces(more=0):
    uid, gid = os.getuid(), os.getgid()
    syscalls.unshare(syscalls.CLONE_NEWUSER | more)
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{uid} {uid} 1")
    write("/proc/self/gid_map", f"{gid} {gid} 1")

def become_first():
    if pid := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

def no_more(kind):
    namespaces()
    write(f"/proc/sys/user/max_{kind}_namespaces", "0")

def masked_proc():
    namespaces(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID)
    become_first()
    syscalls.mount("proc", "/proc", kind="proc")
    syscalls.mount("tmpfs", "/proc/sys", kind="tmpfs", flags=syscalls.MS_RDONLY)

def others_proc():
    namespaces(syscalls.CLONE_NEWPID)
    become_first()

def killed_at(number):
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.load_filter(_program(number, 0x80000000))

def no_fork():
    refused = Rule("clone", Answer.EPERM, (Match(0, 0, 0x100),))  # without CLONE_VM
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.load_filter(compile_rules((refused,), default=Answer.ALLOW))

def limit(name, value):
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, value))

exec(sys.argv[1])
found = {}
report = doctor.examine()
for tier, findings in report.tiers.items():
    found[tier] = {f.layer: [f.state, f.detail, f.remedy] for f in findings if f.state != "ok"}
    try:
        found[tier]["job"] = confine.python("print(1)", tier=tier).exit.kind
    except ConfinementError as error:
        found[tier]["job"] = error.layer
print(json.dumps(found))
confine.close()
"""


@pytest.fixture
def found(as_ordinary_user: Runner) -> Callable[[str], dict[str, Any]]:
    require("userns")
    require("landlock")

    def run(setup: str) -> dict[str, Any]:
        done = as_ordinary_user(SCRIPT, setup)
        assert done.stderr == ""
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run


def states(tier: dict[str, Any]) -> dict[str, str]:
    return {layer: said[0] for layer, said in tier.items() if layer != "job" and said[0] != "unknown"}


def test_here_nothing_is_missing(found: Callable[[str], dict[str, Any]]) -> None:
    both = found("")
    for tier in both.values():
        assert set(states(tier).values()) <= {"weaker"}
        assert tier["job"] == "exited"


@pytest.mark.parametrize(
    ("kind", "layer"), [("user", "user-ns"), ("net", "net-ns"), ("pid", "pid-ns"), ("mnt", "mount-ns")]
)
def test_no_more_namespaces_of_a_kind(kind: str, layer: str, found: Callable[[str], dict[str, Any]]) -> None:
    both = found(f"no_more({kind!r})")
    state, detail, remedy = both["full"][layer]
    assert (state, "ENOSPC" in detail) == ("missing", True)
    assert f"user.max_{kind}_namespaces = 15000" in remedy
    assert both["full"]["job"] == layer
    assert (states(both["no-userns"]), both["no-userns"]["job"]) == ({}, "exited")


def test_a_masked_proc_is_weaker_and_jobs_still_run(found: Callable[[str], dict[str, Any]]) -> None:
    both = found("masked_proc()")
    assert states(both["full"]) == {"rootfs": "weaker"}
    assert "EPERM" in both["full"]["rootfs"][1]
    assert both["full"]["job"] == both["no-userns"]["job"] == "exited"


def test_a_proc_that_speaks_of_others_is_refused(found: Callable[[str], dict[str, Any]]) -> None:
    """What the supervisor finds in /proc below itself, it kills: here these would be others."""
    for tier in found("others_proc()").values():
        assert states(tier) == {"supervisor": "missing"}
        assert "mount -t proc" in tier["supervisor"][2]
        assert tier["job"] == "supervisor"


def test_a_filter_that_kills_is_recognised_and_ends_only_the_probe(
    found: Callable[[str], dict[str, Any]],
) -> None:
    import pyseccomp

    number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, "unshare")
    both = found(f"killed_at({number})")
    assert "SIGSYS" in both["full"]["user-ns"][1]
    assert (states(both["no-userns"]), both["no-userns"]["job"]) == ({}, "exited")


def test_low_limits_are_weaker(found: Callable[[str], dict[str, Any]]) -> None:
    both = found("limit('NOFILE', 512)")
    assert states(both["full"]) == states(both["no-userns"]) == {"rlimits": "weaker"}
    assert both["full"]["job"] == "exited"
    few = found("from fumehood.confine import procs; limit('NPROC', procs.count_of_user(os.getuid()) + 40)")
    assert states(few["full"])["supervisor"] == "weaker"


@pytest.mark.parametrize("setup", ["limit('NPROC', 1)", "no_fork()"])
def test_where_nothing_can_be_forked_only_that_is_said(
    setup: str, found: Callable[[str], dict[str, Any]]
) -> None:
    """Without room for a process, and where processes can be started, which then cannot fork."""
    for tier in found(setup).values():
        assert states(tier) == {"supervisor": "missing"}
        assert re.search("EAGAIN|EPERM", tier["supervisor"][1])
        assert tier["job"] in ("supervisor", "processes")


def test_nothing_on_the_host_has_changed(found: Callable[[str], dict[str, Any]]) -> None:
    def host() -> list[str]:
        paths = ("/proc/self/mountinfo", "/proc/sys/kernel/hostname", "/proc/sys/user/max_user_namespaces")
        texts = []
        for path in paths:
            with open(path) as file:
                texts.append(file.read())
        return texts

    before = host()
    source = "from fumehood.confine import doctor; doctor.gather()"
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)
    found("")
    assert host() == before
