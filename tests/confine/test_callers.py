"""Whoever calls, however it was started and whatever it did before: it works, or is refused by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from host import require

from confine.callers import BEFORE, CALL, FLAGS, HEAD, REFUSED, TWO_JOBS, WAYS
from confine.conftest import _BECOME, ORDINARY, SOURCE_ROOT, _require_usable_by_others
from confine.test_lifetime import is_alive, wait_until

PATHS = [SOURCE_ROOT, str(Path(click.__file__).parents[1])]
Caller = Callable[..., dict[str, Any]]


def _ways() -> list[Any]:
    """As an ordinary user in `full` at once; the others in the long run."""
    return [
        pytest.param((who, tier), id=f"{who}-{tier}", marks=() if is_quick else pytest.mark.slow)
        for who, tier, is_quick in (
            ("ordinary", "full", True),
            ("ourselves", "full", False),
            ("ordinary", "no-userns", False),
            ("ourselves", "no-userns", False),
        )
    ]


@pytest.fixture(params=_ways())
def caller(request: pytest.FixtureRequest) -> Iterator[Caller]:
    """Runs a script as one of two users and answers what it said, when nothing of it is left."""
    who, tier = request.param
    require("userns" if tier == "full" else "landlock")
    folder = tempfile.mkdtemp(prefix="callers-")  # not pytest's: others may enter this one
    os.chmod(folder, 0o777)
    try:
        yield lambda script, **options: _run(_python(who), script, tier, folder, **options)
    finally:
        shutil.rmtree(folder)


def _python(who: str) -> list[str]:
    if who == "ourselves" or os.geteuid() != 0:
        return [sys.executable]
    require("system-python")
    _require_usable_by_others(PATHS)
    return [sys.executable, "-I", "-S", "-c", _BECOME, str(ORDINARY), "/usr/bin/python3"]


def _run(
    python: list[str],
    script: str,
    tier: str,
    folder: str,
    *,
    flags: Sequence[str] = (),
    env: dict[str, str] | None = None,
) -> dict[str, Any]:
    read, write = os.pipe()
    paths = f"import sys; sys.path[:0] = {PATHS!r}\n"  # -I and -E take no PYTHONPATH
    given = {"PATH": os.environ["PATH"], "SAY": str(write), **(env or {})}
    with os.fdopen(read, "rb") as said:
        process = subprocess.Popen(
            [*python, *flags, "-c", paths + HEAD + script, tier, folder],
            env={name: value.replace("FOLDER", folder) for name, value in given.items()},
            pass_fds=(write,),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
        )
        os.close(write)
        try:
            _, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        found: dict[str, Any] = json.loads(said.read() or b"{}")
    found["errors"] = errors.decode()
    below = found.pop("below", [])
    assert wait_until(lambda: not any(map(is_alive, below))), "somebody outlived the caller"
    found["files"] = sorted(os.listdir(folder))
    return found


@pytest.mark.parametrize("before", BEFORE)
def test_jobs_work_whatever_the_application_did_before(before: str, caller: Caller) -> None:
    found = caller(BEFORE[before] + CALL + TWO_JOBS)
    assert found.get("good"), found
    assert "ran" not in found["files"]


@pytest.mark.parametrize("before", REFUSED)
def test_an_application_without_room_is_refused_by_name(before: str, caller: Caller) -> None:
    layer, setup = REFUSED[before]
    found = caller(CALL + setup + TWO_JOBS)
    assert found.get("layer") == layer, found
    assert f"(layer: {layer}). " in found["text"]


@pytest.mark.parametrize("way", WAYS)
def test_jobs_work_however_they_are_called(way: str, caller: Caller) -> None:
    found = caller(CALL + WAYS[way])
    assert found.get("good"), found


@pytest.mark.parametrize(
    "flag", [pytest.param(flag, marks=() if flag in ("-O", "-I") else pytest.mark.slow) for flag in FLAGS]
)
def test_jobs_work_however_the_interpreter_was_started(flag: str, caller: Caller) -> None:
    found = caller(CALL + TWO_JOBS, flags=[flag])
    assert found.get("good"), found


def test_nothing_that_the_environment_asks_for_is_loaded_below(caller: Caller) -> None:
    """PYTHONPATH, PYTHONSTARTUP and LD_PRELOAD are the application's own business, and go no further."""
    plant = """
with open(FOLDER + "/sitecustomize.py", "w") as file:
    file.write("import os\\nopen(os.path.dirname(__file__) + '/loaded-%d' % os.getpid(), 'w')\\n")
import shutil
shutil.copy(sys.argv[3] if len(sys.argv) > 3 else os.path.realpath(LIBRARY), FOLDER + "/hostile.so")
os.environ.update(
    PYTHONPATH=FOLDER, PYTHONSTARTUP=FOLDER + "/sitecustomize.py", PYTHONHOME=FOLDER, PYTHONINSPECT="1",
    PYTHONWARNINGS="error", PYTHONUSERBASE=FOLDER, LD_PRELOAD=FOLDER + "/hostile.so", LD_LIBRARY_PATH=FOLDER,
    BASH_ENV=FOLDER + "/sitecustomize.py", ENV=FOLDER + "/sitecustomize.py", IFS="/",
)
"""
    library = f"LIBRARY = {_a_library()!r}\n"
    look = """
job = confine.start(Spec(source="import time; time.sleep(0.3)", tier=TIER))
time.sleep(0.15)
maps = []
for pid in procs.descendants(os.getpid()):
    try:
        with open(f"/proc/{pid}/maps") as file: maps.append("hostile.so" in file.read())
    except (PermissionError, FileNotFoundError, ProcessLookupError): pass
job.wait()
if any(maps): end(False, maps=maps); os._exit(1)
"""
    found = caller(library + plant + CALL + look + TWO_JOBS + "\nos._exit(0)\n")
    assert found.get("good"), found
    assert [name for name in found["files"] if name.startswith("loaded")] == []


def _a_library() -> str:
    """Any shared object that loads into every program."""
    with open("/proc/self/maps") as file:
        return next(line.split()[-1] for line in file if "/libc.so" in line or "/libc-" in line)


def test_another_interpreter_of_the_same_process_works_or_is_refused(caller: Caller) -> None:
    source = f"""
import sys
sys.path[:0] = {PATHS!r}
from fumehood import confine
from fumehood.errors import ConfinementError
import os
try:
    said = confine.python("print(6 * 7)", tier=TIER).stdout
except ConfinementError as error:
    said = error.layer.encode()
os.write(WRITE, said)
"""
    script = f"""
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    end(True); os._exit(0)
read, write = os.pipe()
text = {source!r}.replace("TIER", repr(TIER)).replace("WRITE", str(write))
interpreters.run_string(interpreters.create(), text)
said = os.read(read, 99).decode()
end(said in ("42\\n", "supervisor"), said=said)
"""
    found = caller(CALL + script)
    assert found.get("good"), found
