"""A layer that this host does not give: refused by name with the remedy, nothing ran, nothing weaker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from host import require

from fumehood.confine.layers import REMEDIES
from fumehood.confine.plan import layers

#: The caller puts a filter over itself under which some calls fail, as a surrounding sandbox would. One child
#: per case, since a filter is for life.
SCRIPT = """
import json, os, sys
from fumehood import confine
from fumehood.confine import syscalls
from fumehood.confine.seccomp import Answer, FilterSpec, Rule, compile_filter, compile_rules
from fumehood.errors import ConfinementError

def case(names, answer, tier, profile):
    rules = tuple(Rule(name, Answer[answer]) for name in names.split(","))
    program = compile_rules(rules, default=Answer.ALLOW)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.load_filter(program, listener=answer == "NOTIFY")
    try:
        outcome = confine.python(f"open({sys.argv[2]!r}, 'w')", tier=tier, profile=profile)
    except ConfinementError as error:
        return {"layer": error.layer, "remedy": error.remedy, "text": str(error)}
    return {"layer": "", "exit": outcome.exit.kind, "layers": outcome.layers}

for words in json.loads(sys.argv[1]):
    read, write = os.pipe()
    if not os.fork():
        os.write(write, json.dumps(case(*words)).encode())
        confine.close()
        os._exit(0)
    os.close(write)
    print(os.read(read, 65536).decode())
    os.wait()
"""
CASES = [
    ("unshare", "EPERM", "full", "python-offline", "user-ns"),
    ("unshare", "ENOSYS", "full", "python-offline", "user-ns"),
    ("mount", "EPERM", "full", "python-offline", "rootfs"),
    ("pivot_root", "EPERM", "full", "python-offline", "rootfs"),
    ("mount_setattr", "ENOSYS", "full", "python-offline", "rootfs"),
    ("landlock_create_ruleset", "ENOSYS", "full", "python-offline", "landlock"),
    ("landlock_create_ruleset", "EPERM", "no-userns", "python-offline", "landlock"),
    ("landlock_restrict_self", "EPERM", "no-userns", "strictest", "landlock"),
    ("prlimit64", "EPERM", "no-userns", "python-offline", "rlimits"),
    # Only one listener may exist among a process's filters: a surrounding one takes ours away.
    ("acct", "NOTIFY", "full", "model-loader", "observe"),
    ("unshare,mount,pivot_root", "EPERM", "no-userns", "python-offline", ""),
]

Runner = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def answers(as_ordinary_user: Runner, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What each case came to. Whatever it was, the job itself never wrote its marker."""
    require("userns")
    require("landlock")
    marker = tmp_path_factory.mktemp("refusals") / "ran"
    marker.parent.chmod(0o777)
    done = as_ordinary_user(SCRIPT, json.dumps([case[:4] for case in CASES]), str(marker))
    assert done.stderr == ""
    assert not marker.exists()
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "number", [n for n, case in enumerate(CASES) if case[4]], ids=lambda n: "-".join(CASES[n])
)
def test_a_missing_layer_is_named_with_its_remedy(answers: list[dict[str, str]], number: int) -> None:
    found, layer = answers[number], CASES[number][4]
    assert found["layer"] == layer, found
    assert found["remedy"] == REMEDIES[layer]
    assert layer in found["text"]


def test_without_user_namespaces_the_lesser_tier_still_works(answers: list[dict[str, str]]) -> None:
    assert (answers[-1]["layer"], answers[-1]["exit"]) == ("", "exited")


def test_root_whose_interpreter_nobody_else_can_reach_is_told(tmp_path: Path) -> None:
    require("root")
    from fumehood.confine.plan import Host
    from fumehood.confine.root import barring_folder

    if not any(map(barring_folder, Host.here().python_roots)):
        pytest.skip("this interpreter can be reached by every user")
    args = [json.dumps([["unshare", "EPERM", "no-userns", "python-offline"]]), str(tmp_path / "ran")]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *args], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["layer"] == "identity"
    assert "which only root can enter" in found["text"]


def test_every_layer_has_a_remedy() -> None:
    assert {*layers("full", observe=True), *layers("no-userns", observe=True)} <= set(REMEDIES)
