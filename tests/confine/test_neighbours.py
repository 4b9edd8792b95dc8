"""Jobs of one kind are cloned from one template: what one of them can see and do of another."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.watching import below
from host import require

from confine.test_pool import held
from fumehood import confine
from fumehood.confine import Spec
from fumehood.confine.api import _CLIENT

LOOK = """
import json, os
def alive(pid):
    try: os.kill(pid, 0)
    except ProcessLookupError: return False
    except PermissionError: return True
    return True
seen = [int(name) for name in os.listdir('/proc') if name.isdigit()] if os.path.isdir('/proc') else None
print(json.dumps({'me': os.getpid(), 'proc': seen, 'alive': [pid for pid in range(1, 300) if alive(pid)],
    'tmp': os.listdir('/tmp') if os.path.isdir('/tmp') else [], 'home': os.listdir('.')}))
"""
STAY = "import os, time\nopen('mine', 'w').write('x')\nprint(os.getpid(), flush=True)\ntime.sleep(600)"


@pytest.fixture(params=["nothing", "a folder to read", "a folder to write"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, object]:
    folder = tmp_path / "shown"
    folder.mkdir()
    return {
        "nothing": {},
        "a folder to read": {"read": [str(folder)]},
        "a folder to write": {"write": [str(folder)]},
    }[request.param]


@pytest.fixture
def neighbour(options: dict[str, object]) -> Iterator[None]:
    """A job of the same kind that stays."""
    told: list[bytes] = []
    job = confine.start(
        Spec(source=STAY, on_output=lambda _, part: told.append(part), timeout_s=60, **options)
    )
    end = time.monotonic() + 20
    while not told and time.monotonic() < end:
        try:
            job.wait(0.05)
        except TimeoutError:
            continue
    assert told
    yield
    job.kill()
    job.wait()


def test_a_job_finds_itself_and_nobody_else(options: dict[str, object], neighbour: None) -> None:
    require("userns")
    outcome = confine.python(LOOK, **options)
    found = json.loads(outcome.stdout)
    assert found["proc"] in ([found["me"]], None), outcome.stderr
    assert set(found["alive"]) <= {1, found["me"]}  # the first process of its own namespace is there and idle
    assert "mine" not in found["tmp"] + found["home"]


def test_its_first_process_cannot_be_looked_into_nor_moved(options: dict[str, object]) -> None:
    require("userns")
    source = """
import os, signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGUSR1):
    try:
        os.kill(1, number)
    except PermissionError:  # Landlock keeps signals inside, from Linux 6.12 on
        pass
for name in ('cmdline', 'environ', 'maps', 'mem', 'root', 'ns/mnt', 'fd/0'):
    try:
        open(f'/proc/1/{name}', 'rb').read(1)
    except OSError:
        continue
    print(name)
print('still here')
"""
    for _ in range(3):  # the template, whose memory that process shares, goes on too
        assert confine.python(source, **options).stdout == b"still here\n"


def test_every_job_has_namespaces_of_its_own() -> None:
    require("userns")
    if not confine.python("import os; os.readlink('/proc/self/ns/pid')").exit.is_success:
        pytest.skip("this host masks its /proc")
    source = "import os; print(*(os.readlink(f'/proc/self/ns/{n}') for n in ('pid', 'mnt', 'user', 'net')))"
    found = [line.split() for line in held(source, 3)]
    assert [len({row[n] for row in found}) for n in range(4)] == [3, 3, 3, 1]
    ours = [os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "mnt", "user", "net")]
    assert not set(ours) & {link for row in found for link in row}


def test_a_job_that_may_make_sockets_has_its_own_network_too() -> None:
    require("userns")
    if not confine.python(
        "import os; os.readlink('/proc/self/ns/net')", profile="model-loader"
    ).exit.is_success:
        pytest.skip("this host masks its /proc")
    source = "import os; print(*(os.readlink(f'/proc/self/ns/{n}') for n in ('net', 'ipc')))"
    one, other = (line.split() for line in held(source, 2, profile="model-loader"))
    assert set(one).isdisjoint(other)


GONE = """
import os, signal, sys, tempfile
from pathlib import Path
from fumehood import confine
from fumehood.confine import Spec, procs
from fumehood.confine.api import _CLIENT
from fumehood.errors import ConfinementError

place = tempfile.mkdtemp()
good, bad = place + "/good", place + "/bad"
os.mkdir(good)
os.mkdir(bad)
start = lambda folder: confine.start(Spec(source="print(1)", tier=sys.argv[1], read=[folder], timeout_s=20))
start(good).wait()

def name(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):  # a jail that was used up
        return ""

# oldest first, as the kernel lists children: numbers begin anew when there are no more
templates = [p for p in procs.children(_CLIENT._spawner.pid) if name(p) == "fumehood-jail\\n"][:1]
for pid in templates:
    os.kill(pid, signal.SIGSTOP)
jobs = [start(folder) for folder in (bad, good, good)]
os.rename(bad, place + "/gone")
for pid in templates:
    os.kill(pid, signal.SIGCONT)
print(*(job.wait().stdout.decode().strip() for job in jobs[1:]))
try:
    print(jobs[0].wait())
except ConfinementError as error:
    print(error.layer)
"""


def test_a_folder_that_is_gone_costs_only_the_job_that_wanted_it(
    tier: str, as_ordinary_user: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """What cannot be made ready ends its template; others that it was asked for are given to another."""
    done = as_ordinary_user(GONE, tier)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["1 1", "rootfs" if tier == "full" else "landlock"]


#: write(2) answers EFAULT where nothing is: no map of one's own memory is needed. Beside what is alive now.
REMEMBER = """
import ctypes, os, sys
reading, writing = os.pipe()
write = ctypes.CDLL(None).write
write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
known, turned, found = set(), sys.argv[1].encode(), []  # the word itself is never in here
some = [object(), [], {}, b'x' * 300, 'x' * 999, sys, os.environ, os.listdir, ctypes.create_string_buffer(99)]
for one in some:
    known |= set(range(id(one) & ~0xfff, (id(one) & ~0xfff) + (24 << 20), 4096))
    known |= set(range((id(one) & ~0xfff) - (24 << 20), id(one) & ~0xfff, 4096))
before = b''
for page in sorted(known):
    if write(writing, page, 4096) == 4096:
        body = os.read(reading, 4096)
        found += [before[-40:] + body] * (turned in (before[-40:] + body)[::-1])
        before = body
print(len(known) > 1000, len(found), found[:1])
"""


@pytest.mark.parametrize("beside", ["in a folder", "alone"])
def test_no_memory_of_a_job_holds_what_an_earlier_one_was_given(
    beside: str, tier: str, tmp_path: Path
) -> None:
    confine.close()  # a template that has done nothing else yet: what it keeps is not written over
    word = f"s3cret{os.getpid()}"
    folder, other = tmp_path / word, tmp_path / "other"
    for path in (folder, other):
        path.mkdir()
    mine: dict[str, object] = {"workdir": other} if beside == "in a folder" else {}
    given: dict[str, object] = {"env": {"A": word}, "stdin": word.encode(), "args": [word], "tier": tier}
    for more in ({}, {"workdir": folder}, {"workdir": folder, "artifacts": ["*"]}):
        assert confine.python(f"import sys; 1 # {word}", **given, **more).exit.code == 0
    outcome = confine.python(REMEMBER, args=[word[::-1]], tier=tier, **mine)
    assert outcome.stdout == b"True 0 []\n", outcome


def _memory_of(pid: int) -> bytes:
    """All that process *pid* may write; nothing if it has ended since it was seen."""
    found = b""
    with (
        contextlib.suppress(FileNotFoundError, ProcessLookupError),
        open(f"/proc/{pid}/mem", "rb", buffering=0) as memory,
    ):
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, mode = line.split()[:2]
            if mode.startswith("rw"):
                start, end = (int(text, 16) for text in span.split("-"))
                memory.seek(start)
                found += memory.read(end - start)
    return found


def test_no_template_of_source_has_heard_where_a_job_works(tier: str, tmp_path: Path) -> None:
    """Its clones run source, in a copy of its memory."""
    if os.geteuid() != 0:
        pytest.skip("only root may look into processes of another user namespace")
    confine.close()
    word = f"s3cret{os.getpid()}"
    (tmp_path / word).mkdir()
    assert confine.python("print(1)", tier=tier, workdir=tmp_path / word).stdout == b"1\n"
    assert _CLIENT._spawner
    there = below(_CLIENT._spawner.pid).values()
    templates = [p.pid for p in there if p.name == "fumehood-jail" and p.levels < 3 and p.state != "Z"]
    held_by = {pid: _memory_of(pid) for pid in templates}
    assert any(held_by.values())
    assert [pid for pid, memory in held_by.items() if word.encode() in memory] == []
