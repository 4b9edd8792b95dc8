"""An application may close every file that it has, as daemons do; handlers of signals may call any time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from host import require

from fumehood import confine
from fumehood.confine.api import _CLIENT
from fumehood.confine.kept import Kept
from fumehood.confine.loop import Loop
from fumehood.confine.pool import Template
from fumehood.confine.templates import Templates

_READS = """
import os
try:
    print(os.read(0, 100))
except OSError as error:
    print(error)
"""
_DAEMON = """
import os, sys
from fumehood import confine

job, forks, profile, path, tier = sys.argv[1:]
assert confine.python(job, tier=tier).stdout == b"b''\\n"
if forks == "forks" and os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
os.closerange(3, 1024)
own = [os.open(path, os.O_RDWR) for _ in range(40)]
for _ in range(3):
    print(confine.python(job, tier=tier, profile=profile).stdout.decode(), end="")
print(confine.run(["/bin/cat"], tier=tier, profile=profile).stdout.decode(), end="")
for fd in own:
    assert os.path.samestat(os.fstat(fd), os.stat(path)), fd
confine.close()
assert all(os.path.samestat(os.fstat(fd), os.stat(path)) for fd in own)
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.parametrize("tier", ["full", "no-userns"])
@pytest.mark.parametrize("profile", ["python-offline", "python-data"])
@pytest.mark.parametrize("forks", ["forks", "stays"])
def test_an_application_that_closes_every_file_shows_none_of_its_next_to_a_job(
    forks: str, profile: str, tier: str, tmp_path: Path
) -> None:
    require("userns")
    own = tmp_path / "own"
    own.write_text("a secret")
    command = [sys.executable, "-c", _DAEMON, _READS, forks, profile, str(own), tier]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "b''\n" * 3), ended.stderr


def test_a_number_that_is_another_files_by_now_is_neither_open_nor_closed(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path / name, os.O_CREAT) for name in "ab")
    kept = Kept(first)
    assert kept.is_open()
    os.dup2(second, first)
    assert not kept.is_open()
    kept.close()
    os.close(first)
    os.close(second)
    assert not Kept(first).is_open()


def test_a_signals_handler_may_call_while_the_application_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    require("userns")
    confine.python("")
    spawner = _CLIENT.spawner(())
    is_kept, heard = spawner.is_kept, []

    def interrupted() -> bool:
        monkeypatch.undo()
        heard.append(confine.python("print('handler')").stdout)
        return is_kept()

    def call() -> None:
        heard.append(confine.python("print('call')").stdout)

    for start in (lambda: _CLIENT.spawner(()), call):
        monkeypatch.setattr(type(spawner), "is_kept", lambda _: interrupted())
        thread = threading.Thread(target=start, daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    assert heard == [b"handler\n", b"handler\n", b"call\n"]


def test_the_end_of_a_template_is_not_heard_under_a_number_that_is_anothers() -> None:
    """A process that was forked meanwhile holds what was closed here, and epoll goes on to report that."""
    child = os.fork()
    if not child:
        os._exit(0)
    ours, theirs = socket.socketpair()
    loop = Loop()
    templates = Templates(loop, ours, [], on_loss=lambda _: None, on_drop=lambda _: None)
    template = object.__new__(Template)
    template.pid, template.pidfd, template.anchor, template.anchor_pidfd = child, os.pidfd_open(child), 0, -1
    copy, number = os.dup(template.pidfd), template.pidfd
    loop.watch(number, lambda: templates._on_end(template))
    assert loop.turn(30)
    assert template.pidfd < 0
    with ours, theirs:
        os.dup2(ours.fileno(), number)
        loop.watch(number, lambda: pytest.fail("nothing has come"))
        assert not loop.turn(0.1)
    os.close(copy)
    os.close(number)
