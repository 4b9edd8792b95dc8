"""`fumehood sandbox run`: one program, confined; its output, its status, what it left."""

from __future__ import annotations

import codecs
import errno
import itertools
import os
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from fumehood.cli.output import echo_json, json_option
from fumehood.cli.sandbox_options import confined, spec_fields
from fumehood.display import inert

if TYPE_CHECKING:
    from fumehood.confine.outcome import Artifact, Exit, Outcome

__all__ = ["run", "show", "status_of"]

_DEADLINE, _NOT_EXECUTABLE, _NOT_FOUND, _SIGNAL, _ENDED = 124, 126, 127, 128, 137


@click.command(context_settings={"allow_interspersed_args": False})
@confined(profile="python-offline")
@click.option(
    "--stdin", type=click.File("rb"), help="What it reads; - is this command's own. [default: nothing]"
)
@click.option("--artifact", "artifacts", multiple=True, metavar="PATTERN", help="Files to keep, as *.csv.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The new folder they go to.")
@click.option("--raw", is_flag=True, help="Pass its output through as it is, even to a terminal.")
@json_option
@click.argument("command", nargs=-1, required=True, metavar="COMMAND…")
@click.pass_context
def run(context: click.Context, /, command: tuple[str, ...], **options: Any) -> None:
    """Run COMMAND confined.

    Its output goes through as it comes and as it is, but to a terminal: there, what is not plainly visible is
    spelt out.

    The exit status is the command's own, or 124 at its deadline, 137 where another limit ended it, 126 or
    127 if it could not be started, 128 and more for a signal, 4 if this host cannot confine it, 2 for wrong
    usage. A program that must tell these apart from what the command itself may answer reads --json.
    """
    from fumehood import confine

    fields = {**spec_fields(options), "artifacts": options["artifacts"]}
    if bool(options["artifacts"]) != bool(options["out"]):
        raise click.UsageError("--artifact and --out need each other")
    if options["out"]:
        _require_new(options["out"])
    body = options["stdin"].read() if options["stdin"] else b""
    passing = None if options["as_json"] else Passing(raw=options["raw"])
    try:
        outcome = confine.run(command, stdin=body, on_output=passing, **fields)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if options["out"]:
        write_artifacts(outcome.artifacts, options["out"])
    if passing is None:
        echo_json(as_json(outcome))
    else:
        passing.end()
        explain_end(outcome)
    context.exit(status_of(outcome.exit))


def status_of(ended: Exit) -> int:
    """What a shell is told, by the conventions of timeout(1), env(1) and of shells themselves."""
    match ended.kind:
        case "exited":
            return ended.code
        case "deadline":
            return _DEADLINE
        case "not_started":
            return _NOT_FOUND if ended.code == errno.ENOENT else _NOT_EXECUTABLE
        case "signal" | "filter" | "cpu":
            return _SIGNAL + ended.code
        case _:
            return _ENDED


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Everything that came out of it, but the bodies of files."""
    return {
        "exit": {"kind": outcome.exit.kind, "code": outcome.exit.code},
        "status": status_of(outcome.exit),
        "stdout": outcome.stdout.decode(errors="backslashreplace"),
        "stderr": outcome.stderr.decode(errors="backslashreplace"),
        "profile": outcome.profile,
        "tier": outcome.tier,
        "layers": list(outcome.layers),
        "duration_s": round(outcome.duration_s, 6),
        "artifacts": [
            {"path": os.fsencode(a.path).decode(errors="backslashreplace"), "bytes": len(a.body)}
            for a in outcome.artifacts
        ],
        "refused": [
            {"operation": a.operation, "target": a.target, "verdict": a.verdict} for a in outcome.refused
        ],
        "refused_dropped": outcome.refused_dropped,
    }


class Passing:
    """Two streams on their way to ours. A terminal obeys what it is sent: there everything goes out inert."""

    def __init__(self, *, raw: bool = False) -> None:
        ours = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._ways = {
            name: _Plain(stream) if raw or not stream.isatty() else _Inert(stream)
            for name, stream in ours.items()
        }

    def __call__(self, name: str, piece: bytes) -> None:
        self._ways[name].write(piece)

    def end(self) -> None:
        """Nothing more comes: what is held back as the beginning of a character is shown."""
        for way in self._ways.values():
            way.end()


class _Plain:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, piece: bytes) -> None:
        self._stream.buffer.write(piece)
        self._stream.buffer.flush()

    def end(self) -> None:
        pass


class _Inert:
    """Pieces come out as the whole would: neither a character nor a stack of marks is cut."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._marks = ""  # those at the end of what was shown, which the next are stacked on

    def write(self, piece: bytes, *, final: bool = False) -> None:
        text = self._marks + self._decoder.decode(piece, final)
        shown = inert(text, multiline=True)[len(inert(self._marks, multiline=True)) :]
        click.echo(shown, nl=False, file=self._stream)
        marks = itertools.takewhile(lambda char: unicodedata.category(char)[0] == "M", reversed(text[-9:]))
        self._marks = "".join(reversed(list(marks)))

    def end(self) -> None:
        self.write(b"", final=True)


def show(outcome: Outcome) -> None:
    """Its two streams on ours, and how it ended."""
    passing = Passing()
    passing("stdout", outcome.stdout)
    passing("stderr", outcome.stderr)
    passing.end()
    explain_end(outcome)


def explain_end(outcome: Outcome) -> None:
    """Why it ended, unless by itself, and what it tried."""
    if outcome.exit.kind not in ("exited", "not_started"):
        click.echo(f"fumehood: it ended by: {outcome.exit.kind} ({outcome.exit.code})", err=True)
    for attempt in outcome.refused:
        click.echo(f"fumehood: {attempt.verdict}: {attempt.operation} {inert(attempt.target)}", err=True)
    if outcome.refused_dropped:
        click.echo(f"fumehood: and {outcome.refused_dropped} more", err=True)


# --- files that it left ----------------------------------------------------------------------------------

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _require_new(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and any(folder.iterdir())):
        raise click.UsageError(f"--out {folder}: it is there and not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)


def write_artifacts(found: Sequence[Artifact], out: Path) -> None:
    """Each file below *out*: nothing is overwritten, no link is followed, no name leads elsewhere."""
    from fumehood.confine.layers import missing

    for artifact in found:
        *folders, name = artifact.path.split("/")
        if {"", ".", ".."} & {*folders, name}:
            raise missing("jail", f"a file with the name {artifact.path!r}")
        where = os.open(out, _FOLDER)
        for folder in folders:
            where = _entered(folder, where)
        try:
            with os.fdopen(os.open(name, _NEW, 0o644, dir_fd=where), "wb") as file:
                file.write(artifact.body)
        finally:
            os.close(where)


def _entered(folder: str, where: int) -> int:
    """The folder below *where*, made if need be; closes *where*."""
    try:
        if not os.path.lexists(f"/proc/self/fd/{where}/{folder}"):
            os.mkdir(folder, 0o755, dir_fd=where)
        return os.open(folder, _FOLDER, dir_fd=where)
    finally:
        os.close(where)
