"""`fumehood sandbox shell`: each line confined, no terminal inside, what a shell keeps is kept."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from confine.test_lifetime import all_below, sleeps_below, wait_until
from confine.test_sandbox_command import COMMAND
from fumehood.cli.sandbox import sandbox


def shell(lines: str, *options: str) -> Result:
    return CliRunner().invoke(sandbox, ["shell", *options], input=lines)


def test_each_line_runs_and_the_last_one_gives_the_status(tier: str) -> None:
    done = shell("echo one\n# no line\n\necho two >&2\nexit 3\necho never\n", "--tier", tier)
    assert (done.exit_code, done.stdout, done.stderr) == (3, "one\n", "two\n")
    assert shell("false\n", "--tier", tier).exit_code == 1
    assert shell("exit\n").exit_code == 0


def test_the_folder_and_what_is_set_are_kept_from_line_to_line(tier: str) -> None:
    lines = r"""
mkdir -p a/b
cd a
export X="one $HOME two" two
export X="one   two"
echo "$X" "$#" "$fumehood_line"
cd b
basename "$(pwd)"
touch made \
  also
unset X
echo "[$X]"
cd
ls a/b
cd /usr
pwd
cd /nowhere
pwd
"""
    done = shell(lines, "--tier", tier)
    out = done.stdout.splitlines()
    assert out[0].startswith("one   two 0 ")
    assert out[1:] == ["b", "[]", "also", "made", "/usr", "/usr"]
    assert "/nowhere" in done.stderr


def test_the_folder_of_the_user_is_the_working_folder(tmp_path: Path, tier: str) -> None:
    (tmp_path / "here").write_text("mine\n")
    done = shell("cat here; echo new > there\n", "--tier", tier, "--workdir", str(tmp_path))
    assert done.stdout == "mine\n"
    assert (tmp_path / "there").read_text() == "new\n"


def test_a_folder_of_its_own_is_gone_at_the_end_whatever_is_in_it() -> None:
    lines = "pwd\nmkdir -p d/e && touch d/e/f && chmod 0 d/e d\n"
    folder = Path(shell(lines).stdout.strip())
    assert folder.name.startswith("fumehood-shell-")
    assert not folder.exists()


def test_one_line_can_be_given(tier: str) -> None:
    done = shell("never read\n", "--tier", tier, "-c", "echo $((6 * 7)); exit 5")
    assert (done.exit_code, done.stdout) == (5, "42\n")


def test_limits_are_each_lines_own() -> None:
    done = shell("sleep 60\necho $?\necho on\n", "--timeout", "1", "--limit", "open_files=20")
    assert "it ended by: deadline" in done.stderr
    assert done.stdout.endswith("on\n")
    assert shell("ulimit -n\n", "--limit", "open_files=20").stdout == "20\n"


def test_nothing_of_the_callers_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    done = shell("env\ncat\ntest -t 0 || echo none\nls -l /proc/self/fd\n", "--env", "GIVEN=yes")
    assert "hunter2" not in done.stdout
    assert "GIVEN=yes" in done.stdout
    assert "none\n" in done.stdout
    assert "/dev/pts" not in done.stdout + done.stderr


# --- at a terminal -----------------------------------------------------------------------------------------


class Terminal:
    """The command at a terminal of its own, whose session it leads."""

    def __init__(self, *words: str) -> None:
        self.pid, self._fd = pty.fork()
        if not self.pid:
            os.execv(COMMAND[0], [*COMMAND, "shell", *words])
        self.shown = b""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def shows(self, text: str, *, seconds: float = 20.0) -> bool:
        end = time.monotonic() + seconds
        os.set_blocking(self._fd, False)
        while text.encode() not in self.shown and time.monotonic() < end:
            try:
                self.shown += os.read(self._fd, 65536)
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:  # its other end is closed
                break
        return text.encode() in self.shown

    def status(self) -> int:
        self.shows("\0", seconds=20)  # until it is closed
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    found = Terminal()
    yield found
    found.close()


def test_at_a_terminal_it_says_what_is_active_and_shows_nothing_that_a_terminal_obeys(
    terminal: Terminal,
) -> None:
    assert terminal.shows(". $ ")
    assert b"profile shell, tier full: " in terminal.shown
    assert b"seccomp" in terminal.shown
    terminal.type("printf '\\033]0;owned\\007'\n")
    assert terminal.shows("⟨U+001B⟩]0;owned⟨U+0007⟩")
    terminal.type("mkdir 'a\\033b'; exit 4\n")
    assert terminal.shows("[4]")
    terminal.type("\x04")
    assert terminal.status() == 4
    assert b"\x1b" not in terminal.shown


def test_ctrl_c_ends_what_runs_and_ctrl_d_the_shell(terminal: Terminal) -> None:
    assert terminal.shows(". $ ")
    terminal.type("sleep 600\n")
    assert wait_until(lambda: sleeps_below(terminal.pid))
    terminal.type("\x03")
    assert terminal.shows("it ended by: stopped")
    assert wait_until(lambda: not sleeps_below(terminal.pid))
    terminal.type("half a line\x03")
    assert terminal.shows("^C\r\n. $ ")
    terminal.type("echo still-$((40 + 2))\n")
    assert terminal.shows("still-42")
    below = all_below(terminal.pid)
    terminal.type("\x04")
    assert terminal.status() == 0
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))


def test_nobody_survives_a_terminal_that_is_closed(terminal: Terminal) -> None:
    assert terminal.shows(". $ ")
    terminal.type("sleep 600\n")
    assert wait_until(lambda: sleeps_below(terminal.pid))
    below = all_below(terminal.pid)
    folder = Path(re.search(rb"working folder (\S+)", terminal.shown)[1].decode())  # type: ignore[index]
    assert folder.is_dir()
    os.kill(terminal.pid, signal.SIGHUP)
    assert terminal.status() == 128 + signal.SIGHUP
    assert not folder.exists()
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))


def test_a_line_that_is_refused_does_not_end_the_shell(terminal: Terminal, tmp_path: Path) -> None:
    """Somebody is there, and so is what they made in the folder."""
    assert terminal.shows(". $ ")
    folder = re.search(rb"working folder (\S+)", terminal.shown)[1].decode()  # type: ignore[index]
    os.rename(folder, folder + "-away")
    terminal.type("true\n")
    assert terminal.shows("[4]")
    os.rename(folder + "-away", folder)
    terminal.type("echo on-$((40 + 2)); exit 0\n")
    assert terminal.shows("on-42")
    terminal.type("\x04")
    assert terminal.status() == 0


def test_a_folder_may_have_any_name() -> None:
    done = shell("mkdir 'a b' 'é\u2028x'\ncd 'é\u2028x'\npwd\ncd '../a b'\npwd\n")
    assert [line.rpartition("/")[2] for line in done.stdout.split("\n")] == ["é\u2028x", "a b", ""]


def test_what_is_typed_ahead_reaches_no_job() -> None:
    """Lines are this command's: a program inside that reads gets the end of its input at once."""
    done = subprocess.run(
        [*COMMAND, "shell"], input="cat\necho after\n", capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "after\n"
