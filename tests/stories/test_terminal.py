"""`fumehood demo` in a real terminal (tmux): the person decides, in the terminal UI."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from host import require

from stories.conftest import FUMEHOOD


class Terminal:
    """One pane with a tmux server of its own."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._socket = f"fumehood-{secrets.token_hex(6)}"

    def tmux(self, *args: str) -> str:
        command = ["tmux", "-L", self._socket, "-f", "/dev/null", *args]
        env = os.environ | {"SHELL": "/bin/sh"}  # else that of the account, and nobody's is nologin
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20, env=env).stdout

    def start(self, *command: str) -> None:
        env = {"PATH": os.environ["PATH"], "HOME": str(self._home), "TMPDIR": str(self._home)}
        env |= {"TERM": "tmux-256color", "LC_ALL": "C.UTF-8", "XDG_STATE_HOME": str(self._home)}
        line = shlex.join(["env", "-i", *(f"{k}={v}" for k, v in env.items()), *command])
        self.tmux("new-session", "-d", "-x", "100", "-y", "30", f"{line}; echo EXIT=$?; sleep 300")

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p", "-S", "-200")

    def until(self, *words: str) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if all(word in (screen := self.screen()) for word in words):
                return screen
            if "EXIT=" in screen:
                break
            time.sleep(0.05)
        raise AssertionError(f"{words!r} are not on the screen:\n{screen}")

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def terminal(home: Path) -> Iterator[Terminal]:
    require("tmux")
    terminal = Terminal(home)
    yield terminal
    terminal.close()


def deny(terminal: Terminal, reason: str) -> None:
    time.sleep(0.5)  # a row that has just come cannot be decided at once
    terminal.keys("d")
    terminal.until("Reason")
    terminal.keys(reason, "Enter")


def test_a_person_denies_in_the_terminal_ui_and_then_sees_the_result(terminal: Terminal) -> None:
    terminal.start(str(FUMEHOOD), "demo", "--story", "refund")
    terminal.until("1 pending", '"amount_usd": 500')
    deny(terminal, "no")
    terminal.until("1 pending", '"amount_usd": 881')
    deny(terminal, "ticket")
    terminal.until("0 pending", "done in")
    terminal.keys("q")
    screen = terminal.until("EXIT=0")
    assert "asked: denied" in screen and "What was prevented" in screen


def test_a_person_who_quits_leaves_nothing_waiting(terminal: Terminal) -> None:
    terminal.start(str(FUMEHOOD), "demo", "--story", "refund")
    terminal.until("1 pending")
    terminal.keys("q")
    screen = terminal.until("EXIT=1")
    assert "You left while 1 call(s) waited" in screen
    assert "asked: cancelled" in screen and "What differed" in screen
