"""Both tiers, and a way to run a script as an ordinary user."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from host import require

from fumehood import confine

ORDINARY = 47_000
_BECOME = (
    "import os,sys; i=int(sys.argv[1]); os.setgroups([]); os.setresgid(i,i,i); os.setresuid(i,i,i);"
    "os.execve(sys.argv[2], sys.argv[2:], dict(os.environ))"
)
SOURCE_ROOT = str(Path(confine.__file__).parents[2])


@pytest.fixture(params=["full", "no-userns"])
def tier(request: pytest.FixtureRequest) -> str:
    require("userns" if request.param == "full" else "landlock")
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def spawner_ends() -> Iterator[None]:
    yield
    confine.close()


@pytest.fixture(scope="session")
def as_ordinary_user() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script with the system's Python as a user who owns nothing, or as ourselves if we are not root."""
    require("system-python")

    def run(script: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        paths = [SOURCE_ROOT, sysconfig.get_paths()["purelib"]]
        python = ["/usr/bin/python3", "-W", "error", "-c", script, *args]
        become = [sys.executable, "-c", _BECOME, str(ORDINARY)] if os.geteuid() == 0 else []
        return subprocess.run(
            [*become, *python],
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(paths), **env},
            capture_output=True,
            text=True,
            timeout=60,
            cwd="/",
            check=False,
        )

    return run
