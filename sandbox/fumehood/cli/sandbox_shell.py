"""`fumehood sandbox shell`: looking around inside, line by line.

No terminal is passed inside: nothing there may write to one (TIOCSTI, TIOCLINUX) or read what is typed. So
this command reads the lines, and each is one confined `/bin/sh -c` of its own in the same working folder. Its
output is hostile text like any other. What a shell would remember (`cd`, `export`, `unset`) is kept here, as
text that the next line gets; it comes from inside and is only ever used inside.
"""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from fumehood.cli.failures import CONFINEMENT
from fumehood.cli.sandbox_options import confined, spec_fields
from fumehood.cli.sandbox_run import show, status_of
from fumehood.display import inert
from fumehood.errors import ConfinementError

if TYPE_CHECKING:
    from fumehood.confine.outcome import Outcome

__all__ = ["shell"]

_PLAIN: Final = r"[^;&|<>()`\n]"
_CD: Final = re.compile(rf"cd(\s{_PLAIN}*)?$")
_EXPORT: Final = re.compile(rf"export\s+([A-Za-z_][A-Za-z0-9_]*)=({_PLAIN}*)$")
_UNSET: Final = re.compile(r"unset\s+([A-Za-z_][A-Za-z0-9_]*)$")
_EXIT: Final = re.compile(r"(?:exit|logout)(?:\s+(\d{1,3}))?$")
#: Go where the last line left us, forget our own words, do the line. `$1` is that folder, `$2` the line.
_DO: Final = 'cd -- "$1" || exit; fumehood_line=$2; set --; eval "$fumehood_line"'
#: The same, then say where the working folder is and where we are in it.
_GO: Final = (
    'here=$(pwd -P); cd -- "$1" || exit; fumehood_line=$2; set --; '
    'eval "$fumehood_line" && printf "%s\\n" "$here" "$(pwd -P)"'
)
#: Say what a value comes to.
_VALUE: Final = 'cd -- "$1" || exit; eval "$2" && eval "printf %s \\"\\$$3\\""'


@dataclass(slots=True)
class Session:
    """What one line leaves for the next. `place` is relative to the working folder."""

    fields: dict[str, Any]
    env: dict[str, str] = field(default_factory=dict)
    place: str = "."
    status: int = 0

    def do(self, line: str) -> None:
        """One line: shown, and its status kept."""
        if _CD.fullmatch(line):
            self._go(line)
        elif found := _EXPORT.fullmatch(line):
            self._export(line, found[1])
        elif found := _UNSET.fullmatch(line):
            self.env.pop(found[1], None)
            self.status = 0
        else:
            self._show(self.job(_DO, line))

    def job(self, script: str, *words: str) -> Outcome:
        """`/bin/sh -c` *script* in the sandbox; Ctrl-C ends it, not us."""
        from fumehood import confine

        argv = ["/bin/sh", "-c", script, "sh", self.place, *words]
        job = confine.start(confine.Spec(argv=argv, env=self.env, **self.fields))
        try:
            return job.wait()
        except KeyboardInterrupt:
            job.kill()
            return job.wait()

    def _show(self, outcome: Outcome) -> None:
        show(outcome)
        self.status = status_of(outcome.exit)

    def _go(self, line: str) -> None:
        outcome = self.job(_GO, line if line.strip() != "cd" else 'cd -- "$here"')
        said = outcome.stdout.decode(errors="surrogateescape").split("\n")
        if not outcome.exit.is_success or len(said) < 3:
            return self._show(outcome)
        start, now, _ = said[-3:]
        inside = now == start or now.startswith(start.rstrip("/") + "/")
        self.place = f"./{now[len(start) :].strip('/')}" if inside else now
        self.status = 0
        return None

    def _export(self, line: str, name: str) -> None:
        outcome = self.job(_VALUE, line, name)
        if not outcome.exit.is_success:
            return self._show(outcome)
        self.env[name] = outcome.stdout.decode(errors="surrogateescape")
        self.status = 0
        return None


@click.command()
@confined(profile="shell")
@click.option("-c", "line", metavar="LINE", help="One line, instead of those that are read.")
@click.pass_context
def shell(context: click.Context, /, line: str | None, **options: Any) -> None:
    """Look around inside: each line that is read is one confined /bin/sh of its own.

    The working folder (--workdir, else one that is removed at the end) is the same for all; `cd DIR`,
    `export NAME=VALUE` and `unset NAME` alone on a line are kept for the next. Limits and --timeout are
    each line's own. No terminal and no input is passed inside. Ctrl-C ends what runs, Ctrl-D the shell.
    """
    fields = spec_fields(options)
    session = Session({k: v for k, v in fields.items() if k != "env"}, env=dict(fields["env"]))
    with _working_folder(fields["workdir"]) as folder:
        session.fields["workdir"] = folder
        try:
            _converse(session, line)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    context.exit(session.status)


@contextlib.contextmanager
def _working_folder(given: Path | None) -> Iterator[Path]:
    """The user's folder, or one of our own that goes at the end, whatever a job made of it."""
    if given:
        yield given
        return
    from fumehood.confine import folders

    own = tempfile.mkdtemp(prefix="fumehood-shell-")
    for number in (signal.SIGHUP, signal.SIGTERM):  # a terminal that is closed: the folder goes all the same
        signal.signal(number, _leave)
    try:
        yield Path(own)
    finally:
        folders.remove(own)


def _leave(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def _converse(session: Session, line: str | None) -> None:
    if line is not None:
        return session.do(line)
    at_terminal = sys.stdin.isatty()
    if at_terminal:
        _greet(session)
    while (read := _next_line(session, prompt=at_terminal)) is not None:
        if ending := _EXIT.fullmatch(read):
            session.status = int(ending[1]) & 0xFF if ending[1] else session.status
            return None
        if not read or read.startswith("#"):
            continue
        if at_terminal:
            _do_and_stay(session, read)
        else:
            session.do(read)
    return None


def _do_and_stay(session: Session, line: str) -> None:
    """One line, after which somebody is still there: what it could not do is said."""
    try:
        session.do(line)
    except ConfinementError as error:
        click.echo(f"fumehood: {inert(str(error), multiline=True)}", err=True)
        session.status = CONFINEMENT
    if session.status:
        click.echo(f"[{session.status}]", err=True)


def _greet(session: Session) -> None:
    outcome = session.job(":")
    profile, tier = outcome.profile, outcome.tier
    click.echo(f"fumehood: profile {profile}, tier {tier}: {', '.join(outcome.layers)}", err=True)
    click.echo(inert(f"fumehood: working folder {session.fields['workdir']}"), err=True)
    click.echo("fumehood: each line is a process of its own; Ctrl-C ends it, Ctrl-D ends this", err=True)


def _next_line(session: Session, *, prompt: bool) -> str | None:
    """The next line, joined where it ends with a backslash; None at the end of input."""
    parts: list[str] = []
    while True:
        if prompt:
            mark = "> " if parts else f"{session.place.removeprefix('./') or '.'} $ "
            click.echo(inert(mark), nl=False, err=True)
        try:
            read = sys.stdin.readline()
        except KeyboardInterrupt:  # the line that was being typed, not the shell
            click.echo(err=True)
            parts = []
            continue
        if not read:
            if prompt:
                click.echo(err=True)
            return "".join(parts) or None
        parts.append(read.rstrip("\n"))
        if not parts[-1].endswith("\\"):
            return "".join(parts).strip()
        parts[-1] = parts[-1][:-1]
