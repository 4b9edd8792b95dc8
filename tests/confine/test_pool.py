"""Jails that are made ahead: each is used once, none knows of another, and few of them wait."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from host import require

from confine.callers import CALL
from confine.test_callers import caller  # noqa: F401 — a fixture
from confine.test_lifetime import is_alive, wait_until
from fumehood import confine
from fumehood.confine import Spec, procs
from fumehood.confine.api import _CLIENT
from fumehood.confine.profile import named

#: Everything that a process has which an earlier one could have left to it.
STATE = r"""
import builtins, gc, os, resource, signal, sys, threading
before = sorted(sys.modules)
def below(folder):
    return sorted(os.path.join(a, n) for a, _, names in os.walk(folder) for n in names)
def is_open(fd):
    try:
        return bool(os.fstat(fd))
    except OSError:
        return False
print(repr({
    "files": [below(f) for f in ("/tmp", "/dev/shm", "/var/tmp", ".")],
    "environment": {name: value for name, value in os.environ.items() if "/fumehood-" not in value},
    "modules": before, "builtins": sorted(vars(builtins)), "open": builtins.open.__module__,
    "main": sorted(globals()), "path": sys.path, "argv": sys.argv, "hooks": len(sys.meta_path),
    "umask": os.umask(0o22), "folder": os.path.basename(os.getcwd()).split("-")[0],
    "handlers": [str(signal.getsignal(n)).split(" at ")[0] for n in range(1, 65)],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "timer": signal.getitimer(signal.ITIMER_REAL), "open files": [fd for fd in range(1000) if is_open(fd)],
    "threads": threading.active_count(), "recursion": sys.getrecursionlimit(), "gc": gc.isenabled(),
    "limits": [resource.getrlimit(n) for n in set(range(16)) - {resource.RLIMIT_NPROC}],
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "leads": (os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()),
}))
"""
MESS = r"""
import builtins, gc, os, resource, signal, sys, tempfile, threading, time, types
for folder in ("/tmp", "/dev/shm", "/var/tmp", "."):
    try:
        os.mkdir(folder + "/left")
        open(folder + "/left/file", "w").close()
    except OSError: pass
os.environ.update(LEFT="1", PATH="/left")
del os.environ["HOME"]
sys.modules["left"] = sys.modules["json"] = types.ModuleType("left")
builtins.left, builtins.print, builtins.open = 1, print, lambda *_: None
sys.path[:], sys.argv[:] = ["/left"], ["left"]
sys.meta_path.clear()
sys.setrecursionlimit(77)
gc.disable()
os.umask(0o777)
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
for _ in range(20): os.set_inheritable(os.dup(1), True)
for what in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE): resource.setrlimit(what, (99, 99))
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
if not os.fork(): time.sleep(600)
os.chdir("/")
sys.stdout.write("done"); sys.stdout.flush()
os._exit(0)
"""


def test_a_job_finds_nothing_of_earlier_ones(tier: str) -> None:
    fresh = confine.python(STATE, tier=tier)
    assert fresh.stdout, fresh.stderr
    for _ in range(4):
        assert confine.python(MESS, tier=tier).stdout == b"done"
        assert confine.python(STATE, tier=tier).stdout.decode() == fresh.stdout.decode()


# --- used once -----------------------------------------------------------------------------------------


def held(source: str, count: int, **fields: Any) -> list[str]:
    """The line that each of *count* jobs says, all of which live until the last one has spoken."""
    jobs, said = [], [b""] * count
    for number in range(count):

        def listen(_: str, piece: bytes, number: int = number) -> None:
            said[number] += piece

        text = source + "\nimport sys, time; sys.stdout.flush(); time.sleep(600)"
        jobs.append(confine.start(Spec(source=text, on_output=listen, timeout_s=60, **fields)))

    def has_spoken(number: int) -> bool:
        with contextlib.suppress(TimeoutError):
            jobs[number].wait(0.01)
        return said[number].endswith(b"\n")

    assert all(wait_until(lambda n=n: has_spoken(n)) for n in range(count)), said
    for job in jobs:
        job.kill()
    assert {job.wait().exit.kind for job in jobs} == {"stopped"}
    return [line.decode().strip() for line in said]


@pytest.mark.parametrize("kind", ["pid", "mnt", "user"])
def test_each_job_has_namespaces_of_its_own(kind: str) -> None:
    require("userns")
    confine.python("1")  # from here on some jails are made ahead
    # a number is given again once its namespace is gone: they have to be there at the same time
    said = held(f"import os; print(os.readlink('/proc/self/ns/{kind}'))", 6)
    assert len(set(said)) == 6, said
    assert os.readlink(f"/proc/self/ns/{kind}") not in said


DRAWS = {
    "random": "import random; print(random.random())",
    "random bytes": "import os; print(os.urandom(16))",
    "uuid": "import uuid; print(uuid.uuid4())",
    "secrets": "import secrets; print(secrets.token_hex())",
    "names of temporary files": "import tempfile; print(tempfile.mkstemp(dir='.')[1])",
    "numpy": "import numpy.random; print(numpy.random.rand())",
    "numpy's own generator": "import numpy; print(numpy.random.default_rng().random())",
}


def require_numpy() -> None:
    if confine.python("import numpy", profile="python-data").exit.code:
        pytest.skip("this interpreter has no numpy")


@pytest.mark.parametrize("draw", DRAWS)
def test_no_two_jobs_draw_the_same(draw: str) -> None:
    """Although they are clones of one process, which has loaded the module already."""
    imports = ("random", "uuid", "secrets", "tempfile")
    if "numpy" in draw:
        require_numpy()
        imports = (*imports, "numpy.random")
    profile = named("python-data").model_copy(update={"imports": imports})
    said = [confine.python(DRAWS[draw], profile=profile) for _ in range(5)]
    assert len({outcome.stdout for outcome in said}) == 5, said


def test_what_jobs_share_is_the_seed_of_hashes_and_it_is_not_the_applications() -> None:
    """As the documentation says. Another application's jobs have another."""
    source = "print(hash('a string'), end='')"
    ours = {int(confine.python(source).stdout) for _ in range(4)}
    assert len(ours) == 1
    assert hash("a string") not in ours
    confine.close()
    assert int(confine.python(source).stdout) not in ours


REPLACED = """
import shutil
os.umask(0o22)
data = tempfile.mkdtemp(prefix="pool-")
os.chmod(data, 0o755)
shown = data + "/shown"
def put(folder, text):
    os.mkdir(folder)
    with open(folder + "/x", "w") as file: file.write(text)
def look():
    return confine.python(f"print(open('{shown}/x').read(), end='')", read=[shown], tier=TIER).stdout.decode()
put(shown, "one")
said = [look() for _ in range(4)]
time.sleep(0.1)
os.rename(shown, data + "/old")
put(shown, "two")
said += [look() for _ in range(4)]
with open(shown + "/x", "w") as file: file.write("three")
os.rename(shown, data + "/new")
os.rename(data + "/new", shown)
said += [look() for _ in range(2)]
shutil.rmtree(shown)
try:
    said.append(look())
except ConfinementError as error:
    said.append(error.layer)
shutil.rmtree(data)
end(said == ["one"] * 4 + ["two"] * 4 + ["three"] * 2 + ["profile"], said=said)
"""


def test_a_folder_that_is_replaced_between_jobs_is_seen_as_it_is(caller: Any) -> None:  # noqa: F811
    found = caller(CALL + REPLACED)
    assert found.get("good"), found


# --- templates and what waits ----------------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[None]:
    """A supervisor that has prepared nothing yet."""
    confine.close()
    yield
    confine.close()


def named_below(name: str) -> list[int]:
    """Our processes of that name, the oldest first."""
    found = []
    for pid in procs.descendants(os.getpid()):
        try:
            with open(f"/proc/{pid}/comm") as comm, open(f"/proc/{pid}/stat") as stat:
                if comm.read().strip() == name:
                    found.append((int(stat.read().rsplit(") ", 1)[1].split()[19]), pid))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [pid for _, pid in sorted(found)]


def settled() -> list[int]:
    """Every process below us, once no more come or go."""
    last: list[int] = []

    def is_same() -> bool:
        nonlocal last
        before, last = last, sorted(procs.descendants(os.getpid()))
        wait_until(lambda: False, seconds=0.1)
        return before == last

    assert wait_until(is_same)
    return last


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("which", ["template", "all jails", "anchor"])
def test_what_was_killed_is_made_anew(which: str) -> None:
    assert confine.python("print(1)").stdout == b"1\n"
    settled()
    jails = named_below("fumehood-jail")
    targets = {"template": jails[:1], "all jails": jails, "anchor": named_below("fumehood-anchor")}[which]
    assert targets
    supervisor = _CLIENT.spawner(()).pid
    for pid in targets:
        with contextlib.suppress(
            ProcessLookupError
        ):  # the supervisor kills the jails of a template that is gone
            os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not any(map(is_alive, targets)))
    settled()
    for number in range(3):
        assert confine.python(f"print({number})").stdout == b"%d\n" % number
    assert _CLIENT.spawner(()).pid == supervisor


@pytest.mark.usefixtures("own")
def test_few_jails_wait_however_many_kinds_of_jobs_came() -> None:
    for number in range(12):
        for _ in range(3):
            outcome = confine.python("print(1)", limits={"processes": 20 + number})
            assert outcome.stdout == b"1\n"
    processes = settled()
    assert len(processes) <= 3 + 6 * 3 + 8 * 2  # ours; of each template, three; of each jail that waits, two
    assert len(named_below("fumehood-anchor")) <= 6


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("profile", "most_kb"), [("python-offline", 6_000), ("python-data", 15_000)])
def test_a_jail_that_waits_holds_little_memory(profile: str, most_kb: int) -> None:
    if profile == "python-data":
        require_numpy()
    for _ in range(3):
        confine.python("1", profile=profile)
    assert wait_until(lambda: len(named_below("fumehood-jail")) > 2)
    settled()
    template, *jails = named_below("fumehood-jail")
    shares = {pid: share_kb(pid) for pid in jails}
    print(f"{profile}: template {share_kb(template)} kB, waiting {sorted(shares.values())} kB")
    assert len(shares) >= 2
    assert max(shares.values()) <= most_kb


def share_kb(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    except PermissionError:
        pytest.skip("only root may look into processes of another user namespace")


@pytest.mark.usefixtures("own")
def test_after_the_end_of_everything_nobody_is_left_and_jobs_go_on() -> None:
    confine.python("1")
    below = settled()
    confine.close()
    assert wait_until(lambda: not any(map(is_alive, below)))
    assert confine.python("print(1)").stdout == b"1\n"


# --- modules that are loaded ahead -----------------------------------------------------------------------


def test_modules_that_the_profile_names_are_loaded_before_the_job() -> None:
    """One that is not there, says something, or ends the interpreter is left to the job."""
    names = ("decimal", "no_such_module_anywhere", "this", "unittest.__main__", "sqlite3")
    profile = named("python-offline").model_copy(update={"imports": names})
    source = f"import sys; print([name in sys.modules for name in {names!r}])"
    for _ in range(2):
        outcome = confine.python(source, profile=profile)
        assert outcome.stdout == b"[True, False, True, False, True]\n"
        assert outcome.stderr == b""
    assert confine.python("import no_such_module_anywhere", profile=profile).exit.code == 1


def test_a_module_that_starts_a_thread_when_it_is_loaded_is_refused(tmp_path: Path) -> None:
    """A clone has no threads: what one of them holds would stay held."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    packages = next((tmp_path / "venv/lib").glob("python3*/site-packages"))
    packages.joinpath("here.pth").write_text("\n".join(path for path in sys.path if path))
    packages.joinpath("starts_a_thread.py").write_text(
        "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    )
    script = """
from fumehood import confine
from fumehood.confine.profile import named
from fumehood.errors import ConfinementError
for name in ("starts_a_thread", "decimal"):
    profile = named("python-offline").model_copy(update={"imports": (name,)})
    try:
        print(confine.python("print(1)", profile=profile).stdout)
    except ConfinementError as error:
        print(error.layer, "starts a thread" in str(error))
"""
    done = subprocess.run(
        [tmp_path / "venv/bin/python", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "profile True\nb'1\\n'\n", done.stderr
