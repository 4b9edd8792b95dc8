"""Private folders go when their job has ended, whatever it made in them, and no other job notices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from host import require

from fumehood import confine
from fumehood.confine import Spec, folders

SHAPES = {
    "closed folders": "os.mkdir('d'); os.mkdir('d/e', 0); os.mkdir('f', 0)",
    "closed folders in closed ones": "os.makedirs('a/b/c')\nfor n in ('a/b/c', 'a/b', 'a'): close(n)",
    "a deep tree": "for _ in range(200): os.mkdir('x' * 50); os.chdir('x' * 50)",
    "many names": "for n in range(500): open(f'f{n}', 'w').close()",
    "links": "os.symlink('/', 'root'); os.symlink('nowhere', 'n'); os.mkdir('d'); os.symlink('..', 'd/up')",
    "pipes": "os.mkfifo('p'); os.mkdir('d'); os.mkfifo('d/p')",
}
CLOSE = """
import os
def close(path):
    try: os.chmod(path, 0)
    except OSError: pass  # where attributes cannot be changed
"""


@pytest.mark.parametrize("shape", SHAPES)
def test_a_job_harms_no_other_by_what_it_leaves(shape: str, tier: str) -> None:
    other = confine.start(Spec(source="import time; time.sleep(0.3); print('other')", tier=tier))
    outcome = confine.python(f"{CLOSE}print(os.getcwd(), flush=True)\n{SHAPES[shape]}", tier=tier)
    assert outcome.exit.kind in ("exited", "disk"), outcome  # a tree may be deeper than is measured
    assert other.wait().stdout == b"other\n"
    if tier == "no-userns":
        assert not os.path.exists(outcome.stdout.decode().strip())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_folder_is_removed_whatever_is_in_it(shape: str, as_ordinary_user: object, tmp_path: Path) -> None:
    """As an ordinary user, whom modes bind."""
    require("system-python" if os.geteuid() == 0 else "landlock")
    script = f"{CLOSE}import sys\nfrom fumehood.confine import folders\nfolder = folders.make()\n"
    script += f"os.chdir(folder)\n{SHAPES[shape]}\nos.chdir('/')\nfolders.remove(folder)\n"
    done = as_ordinary_user(script + "print(os.path.exists(folder))")  # type: ignore[operator]
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_what_is_gone_is_no_error(tmp_path: Path) -> None:
    folders.remove(str(tmp_path / "never there"))


def test_every_waiter_is_told_when_the_supervisor_dies(tier: str) -> None:
    from fumehood.confine.api import _CLIENT

    source = "import time; time.sleep(600)"
    jobs = [confine.start(Spec(source=source, tier=tier, timeout_s=600)) for _ in range(3)]
    assert _CLIENT._spawner
    os.kill(_CLIENT._spawner.pid, 9)
    assert [job.wait().exit.kind for job in jobs] == ["spawner"] * 3
    assert confine.python("print(1)", tier=tier).stdout == b"1\n"
