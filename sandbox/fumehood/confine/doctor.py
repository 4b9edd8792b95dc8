"""Which layers this host gives, found out by putting each on in a child that then tries something harmless.

A probe never decides by version numbers: it starts a real job in each tier and asks it, from inside, for
calls that must fail. What is said from inside is only ever compared with what the supervisor reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fumehood.confine.api import start
from fumehood.confine.layers import REMEDIES
from fumehood.confine.outcome import TIERS, Outcome, Tier
from fumehood.confine.plan import layers as layers_of
from fumehood.confine.spec import Spec
from fumehood.errors import ConfinementError

#: Harmless wherever they are not refused: they name nothing, or a descriptor that is not open.
_PROBE: Final = """
import ctypes, errno, os, socket
def code(call):
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
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
    "socket": {"EPERM"},
    "read": {"ENOENT", "EACCES"},
    "unshare": {"EPERM"},
    "unknown": {"ENOSYS"},
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One layer of one tier on this host. `remedy` is empty where it works."""

    tier: str
    layer: str
    works: bool
    detail: str = ""
    remedy: str = ""


def examine(tier: Tier) -> tuple[Finding, ...]:
    """Put on every layer of *tier*. Layers after the first that is missing are not known, and left out."""
    try:
        plain = start(Spec(source=_PROBE, profile="python-offline", tier=tier, timeout_s=20)).wait()
        observed = start(Spec(source="", profile="model-loader", tier=tier, timeout_s=20)).wait()
    except ConfinementError as error:
        return _until(tier, error)
    active = {*plain.layers, *observed.layers}
    findings = [_finding(tier, layer, layer in active) for layer in layers_of(tier, observe=True)]
    return (*findings, *_surprises(tier, plain))


def _finding(tier: str, layer: str, works: bool, detail: str = "") -> Finding:
    return Finding(tier, layer, works, detail, "" if works else REMEDIES[layer])


def _until(tier: str, error: ConfinementError) -> tuple[Finding, ...]:
    names = layers_of(tier, observe=True)
    known = names[: names.index(error.layer)] if error.layer in names else ()
    missing = Finding(tier, error.layer, False, str(error), error.remedy)
    return (*(_finding(tier, layer, True) for layer in known), missing)


def _surprises(tier: str, outcome: Outcome) -> list[Finding]:
    """Calls that were not refused as they must be."""
    said = dict(line.split() for line in outcome.stdout.decode().splitlines() if line.count(" ") == 1)
    wrong = {
        call: said.get(call, "no answer") for call, good in _EXPECTED.items() if said.get(call) not in good
    }
    return [
        _finding(tier, "seccomp", False, f"the call {call} answered {code}") for call, code in wrong.items()
    ]


def is_confinable(findings: tuple[Finding, ...]) -> bool:
    """True if every layer works."""
    return bool(findings) and all(finding.works for finding in findings)


def examine_all() -> dict[str, tuple[Finding, ...]]:
    """Every tier."""
    return {tier: examine(tier) for tier in TIERS}
