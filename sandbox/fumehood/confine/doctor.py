"""What this host can do, and why not: each layer tried by itself, then a real job in each tier.

A probe never decides by version numbers and needs none of the confining code: it must find out why that does
not work. The job afterwards asks, from inside, for calls that must fail; what it says is only ever compared
with what the supervisor reports. Nothing here changes the host.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from fumehood.confine import facts as reading
from fumehood.confine.api import start
from fumehood.confine.diagnosis import Finding, diagnose, is_confinable, notes
from fumehood.confine.facts import Facts
from fumehood.confine.outcome import TIERS, Outcome, Tier
from fumehood.confine.plan import Host
from fumehood.confine.spec import Spec
from fumehood.errors import ConfinementError

_PACKAGE: Final = Path(__file__).resolve().parent
#: The packages are entered without running their `__init__`: the probes need a few modules only.
_BOOT: Final = """
import json, sys, types
for name, path in (("fumehood", sys.argv[1]), ("fumehood.confine", sys.argv[2])):
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = [path]
from fumehood.confine.probes import main
main(json.loads(sys.argv[3]))
"""
_PATIENCE_S: Final = 60.0
#: Harmless wherever they are not refused: they name nothing, or a descriptor that is not open.
_TRIAL: Final = """
import ctypes, errno, os, socket
def code(call):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        said = "done"
        try:
            call()
        except OSError as error:
            said = errno.errorcode[error.errno]
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    said = os.read(read, 99).decode()
    os.waitpid(pid, 0)
    return said or "killed"  # by a filter of somebody else's around all of this
libc = ctypes.CDLL(None, use_errno=True)
def raw(*words):
    if libc.syscall(*map(ctypes.c_long, words)) < 0:
        raise OSError(ctypes.get_errno(), "")
print("socket", code(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
print("read", code(lambda: open("/etc/shadow")))
print("unshare", code(lambda: raw(272 if os.uname().machine == "x86_64" else 97, 0)))
print("unknown", code(lambda: raw(999)))
"""
_EXPECTED: Final = {
    "socket": ("seccomp", {"EPERM"}),
    "read": ("landlock", {"ENOENT", "EACCES"}),
    "unshare": ("seccomp", {"EPERM", "killed"}),
    "unknown": ("seccomp", {"ENOSYS", "killed"}),
}


@dataclass(frozen=True, slots=True)
class Report:
    """What was found out: the host, each tier's findings, and what is worth knowing besides."""

    facts: Facts
    tiers: Mapping[str, tuple[Finding, ...]]
    notes: tuple[str, ...] = ()

    def works(self, tier: str) -> bool:
        """True if every layer of *tier* does."""
        return is_confinable(self.tiers[tier])


def examine() -> Report:
    """Probe this host, then run a job in each tier. Takes a second or two."""
    facts = gather()
    found: dict[str, tuple[Finding, ...]] = {}
    for tier, findings in _by_tier(facts):
        found[tier] = confirm(findings, trial(tier))
    return Report(facts, found, notes(facts))


def _by_tier(facts: Facts) -> list[tuple[Tier, tuple[Finding, ...]]]:
    found = diagnose(facts)
    return [(tier, found[tier]) for tier in TIERS]


def gather() -> Facts:
    """The facts of this host: read here, and tried in a process of its own.

    Raises:
        ConfinementError: that process gave no answer.
    """
    answer = _probe()
    return replace(reading.from_files(), tried=answer["tried"], numbers=answer["numbers"])


def _probe() -> dict[str, Any]:
    needed = json.dumps(Host.here().python_roots)
    words = [sys.executable, "-I", "-S", "-B", "-c", _BOOT, str(_PACKAGE.parent), str(_PACKAGE), needed]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=_PATIENCE_S, env={}, cwd="/", check=True
        )
        return dict(json.loads(done.stdout))
    except subprocess.CalledProcessError as error:
        raise _unable(
            error.stderr.strip().rpartition("\n")[2] or f"it ended with {error.returncode}"
        ) from error
    except OSError as error:  # no process can be had: that is what there is to know
        return {"tried": {"fork": error.errno or errno.EAGAIN}, "numbers": {}}
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise _unable(str(error)) from error


def _unable(why: str) -> ConfinementError:
    return ConfinementError(
        f"the process that probes this host gave no answer: {why}",
        layer="supervisor",
        remedy="Look at the limits on processes, open files and memory (`ulimit -a`).",
    )


# --- a job in earnest ------------------------------------------------------------------------------------


def trial(tier: Tier) -> dict[str, str]:
    """Layer to fault, after real jobs in *tier*: empty where all is well."""
    try:
        plain = start(Spec(source=_TRIAL, profile="python-offline", tier=tier, timeout_s=20)).wait()
    except ConfinementError as error:
        return {error.layer: str(error)}
    try:
        start(Spec(source="", profile="model-loader", tier=tier, timeout_s=20)).wait()
    except ConfinementError as error:
        return {error.layer: str(error)}
    return _surprises(plain)


def _surprises(outcome: Outcome) -> dict[str, str]:
    """Calls that were not refused as they must be."""
    if not outcome.exit.is_success:
        return {"jail": f"a harmless job ended by {outcome.exit.kind} ({outcome.exit.code})"}
    said = dict(line.split() for line in outcome.stdout.decode().splitlines() if line.count(" ") == 1)
    return {
        layer: f"from inside, the call {call} answered {said.get(call, 'nothing')}"
        for call, (layer, good) in _EXPECTED.items()
        if said.get(call) not in good
    }


def confirm(findings: tuple[Finding, ...], faults: dict[str, str]) -> tuple[Finding, ...]:
    """*findings*, where a job in earnest found the same, or more."""
    if not is_confinable(findings):
        return findings  # known already, with the better reason
    return tuple(
        replace(f, state="missing", detail=faults[f.layer], remedy="") if f.layer in faults else f
        for f in findings
    ) + tuple(
        Finding(findings[0].tier, layer, "missing", text)
        for layer, text in faults.items()
        if layer not in {f.layer for f in findings}
    )
