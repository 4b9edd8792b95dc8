"""A policy worker after loading: judged from outside, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from host import require

WORKER = """
import errno, json, os, socket, sys, threading, resource
from fumehood.confine.pdp import lock_down
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
options = json.loads(sys.argv[1])
layers = lock_down(**options)
def code(call):
    try:
        return call() and "done" or "done"
    except OSError as error:
        return errno.errorcode.get(error.errno, "?")
    except RuntimeError:
        return "RuntimeError"
    except MemoryError:
        return "MemoryError"
answers = {
    "read": code(lambda: open("/etc/hostname")),
    "write": code(lambda: open(sys.argv[2], "w")),
    "socket": code(socket.socket),
    "pair": code(socket.socketpair),
    "fork": code(os.fork),
    "exec": code(lambda: os.execv("/bin/true", ["true"])),
    "kill": code(lambda: os.kill(os.getppid(), 0)),
    "thread": code(lambda: threading.Thread(target=print).start()),
    "memory": code(lambda: bytearray(4 << 30)),
    "unlink": code(lambda: os.unlink(sys.argv[2])),
}
theirs.settimeout(5)
ours.send(b"x" * 1000)
works = len(theirs.recv(2000)) == 1000 and sum(range(1000)) == 499500
out = {"layers": layers, "answers": answers, "works": works, "uid": os.getresuid()}
out["core"] = resource.getrlimit(resource.RLIMIT_CORE)
print(json.dumps(out), flush=True)
"""


def locked_down(tmp_path: Path, **options: object) -> dict[str, object]:
    command = [
        sys.executable,
        "-c",
        WORKER,
        json.dumps({"memory_bytes": 2 << 30, **options}),
        str(tmp_path / "x"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "x").exists()
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_nothing_new_can_be_reached_and_what_is_open_works(tmp_path: Path) -> None:
    found = locked_down(tmp_path, memory_bytes=2 << 30, cpu_s=20)
    assert found["answers"] == {
        "read": "EPERM",
        "write": "EPERM",
        "socket": "EPERM",
        "pair": "ENOSYS",
        "fork": "EPERM",
        "exec": "EPERM",
        "kill": "EPERM",
        "thread": "RuntimeError",
        "memory": "MemoryError",
        "unlink": "ENOSYS",
    }
    assert found["works"] is True
    assert found["core"] == [0, 0]


def test_the_layers_are_named(tmp_path: Path) -> None:
    require("landlock")
    found = locked_down(tmp_path)
    assert found["layers"] == ["identity", "rlimits", "no-new-privs", "landlock", "seccomp"]
    with_parent = locked_down(tmp_path, parent_pid=os.getpid())
    assert "parent-death" in with_parent["layers"]  # type: ignore[operator]


def test_root_is_given_up(tmp_path: Path) -> None:
    require("root")
    uids = locked_down(tmp_path)["uid"]
    assert isinstance(uids, list)
    assert len(set(uids)) == 1
    assert uids[0] != 0


def test_a_worker_whose_parent_has_gone_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, json.dumps({"parent_pid": 1}), str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "has ended (layer: parent-death)" in done.stderr


@pytest.mark.parametrize("spec", ["0 0 1\n", "0 100000 65536\n"])
def test_an_id_that_is_not_mapped_is_not_chosen(spec: str) -> None:
    from fumehood.confine.identity import unprivileged_id
    from fumehood.errors import ConfinementError

    if "65536" in spec:
        assert unprivileged_id(1, uid_map=spec, gid_map=spec) == 65534
    else:
        with pytest.raises(ConfinementError, match="identity"):
            unprivileged_id(1, uid_map=spec, gid_map=spec)
    everything = "0 0 4294967295\n"
    assert unprivileged_id(7, uid_map=everything, gid_map=everything) == 0x7000_0007
