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
from fumehood.confine.root import barring_folder

#: A user of its own for each process that runs tests: what one has started counts against no other's limits.
ORDINARY = 47_000 + os.getpid() % 1000
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
    """Run a script as a user who owns nothing; as ourselves, if we are no more than that."""
    if os.geteuid() != 0:
        return _runner([sys.executable], {k: os.environ[k] for k in ("PYTHONPATH",) if k in os.environ})
    require("system-python")
    paths = [SOURCE_ROOT, sysconfig.get_paths()["purelib"]]
    _require_usable_by_others(paths)
    python = [sys.executable, "-c", _BECOME, str(ORDINARY), "/usr/bin/python3"]
    return _runner(python, {"PYTHONPATH": ":".join(paths)})


def _require_usable_by_others(paths: list[str]) -> None:
    asked = [
        "/usr/bin/python3",
        "-c",
        "import sys; print(*sys.version_info[:2], sep='.')",
    ]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if version != f"{sys.version_info.major}.{sys.version_info.minor}":
        pytest.skip(f"the system's Python is {version}: it cannot use this environment's packages")
    if any(map(barring_folder, paths)):
        pytest.skip("this environment's packages cannot be reached by an ordinary user")


def _runner(python: list[str], more: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(script: str, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*python, "-W", "error", "-c", script, *args],
            env={"PATH": os.environ["PATH"], **more},
            capture_output=True,
            text=True,
            timeout=60,
            cwd="/",
            check=False,
        )

    return run
