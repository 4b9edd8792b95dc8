"""The real command in a real terminal (tmux), on a real ledger; and what a shell can ask of it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from host import require

from fumehood.approval import Move, State, Verdict
from fumehood.ledger import Ledger, open_ledger
from fumehood.model import Session, Subject
from fumehood_tui.store import local_user
from tui.fake import approval, three
from tui.test_hostile import EVIL, FORBIDDEN, evil_approval

FUMEHOOD = Path(sys.executable).with_name("fumehood")
NOBODY = (2**22 + 1, 1)  # no process has this pid: whoever decides does not descend from it
# What textual sends: CSI sequences, character sets, the keypad, and the shape of the mouse pointer.
SEQUENCE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][0AB]|[=>78cM]|\]22;[a-z-]+\x07)")


class Terminal:
    """One pane, 80 by 24, with a tmux server of its own."""

    def __init__(self, folder: Path) -> None:
        self.raw = folder / "raw"
        self._socket = f"fumehood-{secrets.token_hex(6)}"
        self._folder = folder

    def tmux(self, *args: str) -> str:
        command = ["tmux", "-L", self._socket, "-f", "/dev/null", *args]
        env = os.environ | {"SHELL": "/bin/sh"}  # else that of the account, and nobody's is nologin
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20, env=env).stdout

    def start(self, *command: str) -> None:
        env = {k: v for k, v in os.environ.items() if k.startswith("XDG_") or k in ("PATH", "HOME")}
        env |= {"TERM": "tmux-256color", "LC_ALL": "C.UTF-8"}
        line = shlex.join(["env", "-i", *(f"{k}={v}" for k, v in env.items()), *command])
        listens = f"until test -e {shlex.quote(str(self.raw))}; do sleep 0.02; done"
        shell = f"{listens}; {line}; echo EXIT=$?; sleep 300"
        self.tmux("new-session", "-d", "-x", "80", "-y", "24", shell)
        self.tmux("pipe-pane", "-o", f"cat > {shlex.quote(str(self.raw))}")

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def until(self, words: str, *, gone: bool = False) -> str:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if (words in (screen := self.screen())) is not gone:
                return screen
            time.sleep(0.05)
        raise AssertionError(f"{words!r} was {'still' if gone else 'never'} on the screen:\n{screen}")

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    require("tmux")
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def asked(ledger: Ledger) -> None:
    """Three requests of three agents and one that is as hostile as can be."""
    now = time.time()
    alive = {"lease": ledger.lease, "waiter": NOBODY, "created_at": now}
    for n, row in enumerate(three()):
        ledger.open_session(Session(f"s-{n}", Subject(row.agent, "alice")))
        ledger.ask(replace(row, session_id=f"s-{n}", expires_at=now + 500 + n, **alive))
    evil = evil_approval(approval().reasons[0].risk, "eeee0000")
    ledger.open_session(Session(EVIL, Subject(EVIL, EVIL)))
    ledger.ask(replace(evil, expires_at=now + 900, **alive))


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Ledger]]:
    """Opens a ledger that is closed at the end."""
    with contextlib.ExitStack() as stack:

        def opening(path: Path) -> Ledger:
            ledger = open_ledger(path)
            stack.callback(ledger.close)
            return ledger

        yield opening


def test_an_operator_decides_in_a_terminal_of_their_own(
    terminal: Terminal, tmp_path: Path, opened: Callable[[Path], Ledger]
) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir(mode=0o700)
    path = folder / "trace.db"
    terminal.start(str(FUMEHOOD), "tui", "--ledger", str(path))
    screen = terminal.until("Waiting for the ledger")
    assert "trace.db" in screen.replace("\n", "")

    ledger = opened(path)
    asked(ledger)
    terminal.until("4 pending")
    terminal.until("amount_usd")

    terminal.keys("j")  # the medium one
    terminal.until("▸●MED")
    terminal.until("amount_usd")
    time.sleep(0.5)
    terminal.keys("a")
    terminal.until("3 pending")
    row = ledger.approval("81bc04d7")
    assert (row.state, row.decided_by) == (State.APPROVED, local_user())

    other = ledger.approval("82aa5e10")
    ledger.decide(Verdict(other.id, other.revision, other.digest, Move.DENY, "bob", "no"))
    terminal.until("was denied by bob")
    terminal.until("2 pending")

    terminal.keys("G")
    terminal.until("⟨U+")
    terminal.keys("v")
    terminal.until("Esc back")
    terminal.keys("G")
    terminal.until("(end)")
    terminal.keys("q")
    terminal.until("Live trace")
    time.sleep(0.5)  # rows have just gone: nothing is decided for 400 ms
    terminal.keys("d")
    terminal.until("Reason")
    terminal.keys("n", "o", "Enter")
    terminal.until("1 pending")
    assert ledger.approval("eeee0000").note == "no"

    terminal.keys("q")
    terminal.until("EXIT=0")
    raw = terminal.raw.read_bytes()
    assert b"issue_refund" in raw
    rest = SEQUENCE.sub(b"", raw)
    assert b"\x1b" not in rest, rest[max(0, rest.find(b"\x1b") - 40) :][:120]
    text = rest.decode()
    assert not [f"U+{ord(c):04X}" for c in FORBIDDEN if c in text and c not in "\r\n\x0f"]
    assert "owned" in text  # it was on the screen, as plain text


def test_without_colour_and_in_ascii_nothing_else_is_sent(
    terminal: Terminal, tmp_path: Path, opened: Callable[[Path], Ledger]
) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir(mode=0o700)
    asked(opened(folder / "trace.db"))
    terminal.start("env", "NO_COLOR=1", str(FUMEHOOD), "tui", "--ascii", "--ledger", str(folder / "trace.db"))
    terminal.until("4 pending")
    terminal.until("session   opened")  # what happened before it was started is there
    terminal.keys("G")
    terminal.until(">+MED  14:")
    time.sleep(0.5)
    terminal.keys("d")
    terminal.until("Reason")
    terminal.keys("Escape")
    terminal.until("Reason", gone=True)
    terminal.keys("q")
    terminal.until("EXIT=0")
    raw = terminal.raw.read_bytes()
    assert raw.isascii()
    colours = [c for codes in re.findall(rb"\x1b\[([0-9;]*)m", raw) for c in codes.split(b";")]
    assert colours
    assert set(colours) <= {b"", b"0", b"1", b"2", b"3", b"4", b"7", b"22", b"23", b"24", b"27"}


def run(*args: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(FUMEHOOD), "tui", *args],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        **more,  # type: ignore[call-overload]
    )


def test_without_a_terminal_it_says_what_to_use_instead(tmp_path: Path) -> None:
    done = run("--ledger", str(tmp_path / "x.db"))
    assert done.returncode == 2
    assert "fumehood approvals ls" in done.stderr
    assert not (tmp_path / "x.db").exists()


def test_a_ledger_that_cannot_be_used_is_told_with_exit_code_5(terminal: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir(mode=0o700)
    path = folder / "trace.db"
    path.touch(mode=0o600)
    path.write_bytes(b"this is no database" * 1000)
    terminal.start(str(FUMEHOOD), "tui", "--ledger", str(path))
    assert "not a ledger" in terminal.until("EXIT=5")


LOADED = "import sys; {}; print(*(m for m in ('textual', 'rich', 'langchain_core') if m in sys.modules))"


@pytest.mark.parametrize(
    "statement",
    [
        "import fumehood_tui",
        "import fumehood_tui.command",
        "import fumehood",
        "import fumehood.ledger, fumehood.approval, fumehood.display",
        "from click.testing import CliRunner; from fumehood_tui.command import tui; "
        "assert CliRunner().invoke(tui, ['--help']).exit_code == 0",
    ],
)
def test_textual_is_loaded_only_by_running_it(statement: str) -> None:
    code = LOADED.format(statement)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""


def test_no_widget_calls_the_ledger() -> None:
    folder = Path(sys.modules["fumehood_tui"].__file__ or "").parent
    for file in sorted(folder.glob("*.py")):
        text = file.read_text()
        if file.name in ("store.py", "app.py", "command.py"):
            continue
        assert "fumehood_tui.store" not in text, file.name
        assert "open_ledger" not in text, file.name
        assert not re.search(r"import .*\bLedger\b", text), file.name


def test_the_app_stays_small() -> None:
    folder = Path(sys.modules["fumehood_tui"].__file__ or "").parent
    assert len((folder / "app.py").read_text().splitlines()) < 300


@pytest.mark.parametrize("how", ["TERM", "HUP", "closed"])
def test_it_ends_with_its_terminal_and_leaves_it_as_it_was(
    terminal: Terminal, tmp_path: Path, how: str
) -> None:
    pid_file = tmp_path / "pid"
    command = f"echo $$ > {shlex.quote(str(pid_file))}; exec {shlex.quote(str(FUMEHOOD))} tui --ledger "
    terminal.start("sh", "-c", command + shlex.quote(str(tmp_path / "x.db")))
    terminal.until("Waiting for the ledger")
    pid = int(pid_file.read_text())
    if how == "closed":
        terminal.close()
    else:
        os.kill(pid, signal.SIGTERM if how == "TERM" else signal.SIGHUP)
        terminal.until("EXIT=")
        assert "Live trace" not in terminal.screen()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "it still runs"
        time.sleep(0.05)
