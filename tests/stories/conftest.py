"""The demo as somebody at a shell runs it, and agents in this process with a guard of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fumehood import confine

FUMEHOOD = Path(sys.executable).with_name("fumehood")
DEMO_TIMEOUT_S = 180


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Demo = Callable[..., Ran]


@pytest.fixture(scope="session", autouse=True)
def spawner_ends() -> Iterator[None]:
    yield
    confine.close()


def shell(*command: str, home: Path) -> Ran:
    """Run *command* as a person without a terminal would, with a state of its own under *home*."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("COV_", "COVERAGE", "FUMEHOOD_LEDGER"))}
    env |= {"HOME": str(home), "XDG_STATE_HOME": str(home), "XDG_RUNTIME_DIR": "", "TMPDIR": str(home)}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=env,
        cwd=home,
        stdin=subprocess.DEVNULL,
        timeout=DEMO_TIMEOUT_S,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A short folder that other users may walk through, as /tmp is."""
    with tempfile.TemporaryDirectory(prefix="fh-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture(scope="session")
def demo(home: Path) -> Demo:
    """`fumehood demo …` in a process of its own, without a terminal."""
    return lambda *args: shell(str(FUMEHOOD), "demo", *args, home=home)


@pytest.fixture(scope="session")
def played(demo: Demo) -> Ran:
    """The whole demo, once."""
    return demo()
