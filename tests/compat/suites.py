"""Where CPython's own tests are on this host, and how they are run inside and outside.

Distributions leave them out of the interpreter. They are looked for in this order:

    the calling interpreter  if it has its own
    FUMEHOOD_CPYTHON_TESTS   a folder that holds the package `test` for the calling interpreter
                             (.ci/run makes one from Debian's libpython3.x-testsuite)
    FUMEHOOD_CPYTHON         another interpreter, which has its own
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fumehood import confine
from fumehood.confine.root import barring_folder

RUNNER = Path(__file__).with_name("runner.py").read_text()
_WHERE = "import os, sys, test; print(os.path.dirname(test.__path__[0])); print(sys.base_prefix)"


@dataclass(frozen=True)
class Suite:
    """An interpreter, and the folder that holds its package `test`."""

    executable: str
    folder: str
    read: tuple[str, ...] = ()  # what the profile does not show by itself
    path: str = ""

    def has(self, module: str) -> bool:
        there = Path(self.folder, "test", module.split(".")[0])
        return there.is_dir() or there.with_suffix(".py").exists()


@dataclass(frozen=True)
class Result:
    """How one test ended: passed, skipped, failed, or only started; and the last words of its trace."""

    how: str
    why: str


def _of_interpreter(executable: str, *, is_calling: bool) -> list[Suite]:
    found = subprocess.run([executable, "-c", _WHERE], capture_output=True, text=True, check=False)
    if found.returncode:
        return []
    folder, prefix = found.stdout.splitlines()
    return [Suite(executable, folder, () if is_calling else (prefix,))]


@lru_cache(maxsize=1)
def suites() -> tuple[Suite, ...]:
    """All there are, those with `test_json` at least."""
    found = _of_interpreter(sys.executable, is_calling=True)
    if folder := os.environ.get("FUMEHOOD_CPYTHON_TESTS"):
        found.append(Suite(sys.executable, folder, (folder,), path=folder))
    if other := os.environ.get("FUMEHOOD_CPYTHON"):
        found += _of_interpreter(os.path.realpath(other), is_calling=False)
    return tuple(suite for suite in found if suite.has("test_json"))


def suite_with(module: str, tier: str) -> Suite | None:
    """The first that has *module* and can be reached in *tier*."""
    for suite in suites():
        if suite.has(module) and not (tier == "no-userns" and os.geteuid() == 0 and _is_closed(suite)):
            return suite
    return None


def _is_closed(suite: Suite) -> bool:
    """To everybody but root, who cannot lend it without mounts."""
    return any(map(barring_folder, suite.read))


def inside(
    suite: Suite, tier: str, names: list[str], *, leave_out: list[str], timeout_s: float
) -> dict[str, Result]:
    """Run *names* in `python-data`."""
    with tempfile.TemporaryDirectory(prefix="compat-") as folder:
        outcome = confine.run(
            [suite.executable, "-c", RUNNER, "results", "\n".join(leave_out), *names],
            profile="python-data",
            tier=tier,
            read=suite.read,
            env={"PYTHONPATH": suite.path} if suite.path else {},
            workdir=folder,
            timeout_s=timeout_s,
            limits={"output_bytes": 16 << 20},
        )
        return _read(Path(folder, "results"), f"{outcome.exit} {outcome.stderr[-2000:]!r}")


def outside(suite: Suite, names: list[str], *, timeout_s: float) -> dict[str, Result]:
    """Run *names* unconfined."""
    with tempfile.TemporaryDirectory(prefix="compat-") as folder:
        env = {"PATH": os.environ["PATH"], "HOME": folder, "LANG": "C.UTF-8"}
        env |= {"PYTHONPATH": suite.path} if suite.path else {}
        try:
            subprocess.run(
                [suite.executable, "-c", RUNNER, "results", "", *names],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            pass  # what hung is told by the results
        return _read(Path(folder, "results"), "nothing was written")


def _read(path: Path, otherwise: str) -> dict[str, Result]:
    assert path.exists(), otherwise
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    results: dict[str, Result] = {}
    for name, how, why in lines:
        if results.get(name, Result("", "")).how != "failed":  # of several parts the failed one counts
            results[name] = Result(how, why)
    return results
