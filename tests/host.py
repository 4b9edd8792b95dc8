"""What a test may ask of the host: promised by CI and missing fails, otherwise it skips loudly."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_PROBE_USERNS = """
import ctypes, os, sys
if os.getuid() == 0:
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
sys.exit(0 if ctypes.CDLL(None).unshare(0x10000000 | 0x20000) == 0 else 1)
"""


def opa_binary() -> str | None:
    """The `opa` binary: $FUMEHOOD_OPA, on PATH, or where `go install` puts it."""
    candidates = [os.environ.get("FUMEHOOD_OPA"), shutil.which("opa"), str(Path.home() / "go/bin/opa")]
    return next((c for c in candidates if c and os.access(c, os.X_OK)), None)


def _has_userns() -> bool:
    return subprocess.run([sys.executable, "-c", _PROBE_USERNS], check=False).returncode == 0


def _has_landlock() -> bool:
    return int(ctypes.CDLL(None, use_errno=True).syscall(444, 0, 0, 1)) >= 1


def _waits_killably() -> bool:
    """A caller whose call is held can be made deaf to signals: since Linux 5.19."""
    major, minor = (int(part) for part in os.uname().release.split(".")[:2])
    return (major, minor) >= (5, 19)


def _has_cpython_tests() -> bool:
    from compat.suites import suites

    return bool(suites())


PARTS = {
    "opa": lambda: opa_binary() is not None,
    "tmux": lambda: shutil.which("tmux") is not None,
    "userns": _has_userns,
    "landlock": _has_landlock,
    "killable-notify": _waits_killably,
    "root": lambda: os.getuid() == 0,
    "cpython-tests": _has_cpython_tests,
    "system-python": lambda: Path("/usr/bin/python3").exists(),
}


def require(part: str) -> None:
    """Go on only if the host has *part*. FUMEHOOD_CI_PROMISES is a comma-separated list of parts."""
    if PARTS[part]():
        return
    message = f"this host has no {part}"
    if part in os.environ.get("FUMEHOOD_CI_PROMISES", "").split(","):
        pytest.fail(message + ", which CI has promised")
    pytest.skip(message)
