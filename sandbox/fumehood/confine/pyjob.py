"""Running the caller's Python source in a process that is already confined, as `python -c` would.

The interpreter is up and nothing is executed anew: the template makes streams, path and `__main__` ready, and
the functions that its clones call. In a clone every object that is used, be it a name that is looked up in a
module, is a page of memory to be copied. So these functions have bound beforehand whatever they need.
"""

from __future__ import annotations

import _random
import _signal  # type: ignore[import-not-found]
import atexit
import contextlib
import io
import os
import random
import sys
import threading
import types
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

_NAME: Final = "<job>"
#: It leaves no name behind.
_EXAMPLE: Final = b"import sys\nprint(1 + 1)\nfor n in range(2): str(n)\ndel sys, n"
#: As the interpreter has them when it starts.
_HANDLERS: Final = (
    (_signal.SIGCHLD, _signal.SIG_DFL),
    (_signal.SIGINT, _signal.default_int_handler),
    (_signal.SIGPIPE, _signal.SIG_IGN),
    (_signal.SIGXFSZ, _signal.SIG_IGN),
)
_FLUSH_FAILED: Final = 120  # as CPython does
_LEAST_LONG, _MOST_LONG = -sys.maxsize - 1, sys.maxsize


def forget_ourselves() -> None:
    """What of this package is loaded is a part, under its name: the job's own import must find the whole."""
    for name in [name for name in sys.modules if name.split(".")[0] == "fumehood"]:
        del sys.modules[name]


def make_ready() -> tuple[Callable[[], None], Callable[[bytes], int]]:
    """In a template: everything that its jobs find alike, and what each clone calls.

    `rehearse` makes a clone a process of its own and does once, into nothing, what every job will do, so that
    the pages which that writes are its own before the job comes. `run` runs source, shuts the interpreter
    down and answers the exit status.
    """
    for number, handler in _HANDLERS:
        _signal.signal(number, handler)
    _open_streams()
    sys.argv = ["-c"]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    rehearse, run = _runner(main.__dict__)
    rehearse()
    return rehearse, run


def _seeds() -> list[Callable[[], object]]:
    """Jobs that are clones of one process would otherwise all draw the same numbers."""
    random.gauss(0.0, 1.0)
    random._inst.gauss_next = None  # type: ignore[attr-defined]
    numpy_random = sys.modules.get("numpy.random")
    others = [numpy_random.seed] if numpy_random else []
    return [partial(_random.Random.seed, random._inst), *others]


def _runner(names: dict[str, object]) -> tuple[Callable[[], None], Callable[[bytes], int]]:
    name, example, compile_, exec_ = _NAME, _EXAMPLE, compile, exec
    stdout, stderr, run_exit_handlers = sys.stdout, sys.stderr, atexit._run_exitfuncs
    out, err = stdout.flush, stderr.flush
    threads, starting, at_their_end = threading._active, threading._limbo, threading._threading_atexits  # type: ignore[attr-defined]
    seeds, own = _seeds(), len(names)

    def execute(source: bytes) -> int:
        try:
            exec_(compile_(source, name, "exec", 0, True), names)
        except BaseException as error:  # noqa: BLE001 — the interpreter's own last handler
            return _status_after(error)
        return 0

    def is_as_made() -> bool:
        return sys.stdout is stdout and sys.stderr is stderr and not (stdout.closed or stderr.closed)

    def has_threads() -> bool:
        return len(threads) > 1 or bool(starting or at_their_end)

    def flush() -> bool:
        try:
            if not is_as_made():
                flushed = [_is_flushed(stream) for stream in (sys.stdout, sys.stderr, stdout, stderr)]
                return all(flushed)
            out()
            err()
        except (OSError, ValueError):  # it cannot be written, or is detached from what could be
            return False
        return True

    def let_go() -> None:
        """A file that nobody has closed is written when nobody has it any more. Who still runs needs it."""
        if len(names) > own and len(threads) == 1:
            with contextlib.suppress(BaseException):  # of the job's handlers of signals
                for given in [given for given in names if str(given)[:2] != "__"]:
                    names[given] = None

    def rehearse() -> None:
        for seed in seeds:
            seed()
        execute(example)
        has_threads()
        flush()

    def run(source: bytes) -> int:
        code = execute(source)
        if has_threads():
            threading._shutdown()  # type: ignore[attr-defined]
        run_exit_handlers()
        let_go()
        return code if flush() else _FLUSH_FAILED

    return rehearse, run


def _is_flushed(stream: object) -> bool:
    """What a job has put in place of a stream may be anything. One that is closed has nothing to say."""
    try:
        if stream is not None and not getattr(stream, "closed", False):
            stream.flush()  # type: ignore[attr-defined]
    except BaseException:  # noqa: BLE001 — as the interpreter does at its end
        return False
    return True


def _status_after(error: BaseException) -> int:
    """The exit status of source that raised, which is shown as the interpreter does."""
    if isinstance(error, SystemExit):
        return _status(error.code)
    trace = error.__traceback__.tb_next if error.__traceback__ else None  # without the frame that ran it
    try:
        sys.excepthook(type(error), error.with_traceback(trace), trace)
    except BaseException as failure:  # noqa: BLE001 — the job's own hook
        trace = failure.__traceback__.tb_next if failure.__traceback__ else None
        sys.__excepthook__(type(failure), failure, trace)
    return 1


def _status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF if _LEAST_LONG <= code <= _MOST_LONG else 0xFF  # as CPython does
    if sys.stderr is not None:
        sys.stderr.write(f"{code}\n")
    return 1


def set_up(args: list[str], env: Iterable[tuple[str, str]], *, has_input: bool) -> None:
    """What one job has otherwise than others."""
    if has_input:
        sys.stdin = sys.__stdin__ = _reader(0)  # type: ignore[misc]
    for name, value in env:
        os.environ[name] = value
    sys.argv = ["-c", *args]


def read(fd: int) -> bytes:
    """The source that is open as *fd*, which is closed."""
    with os.fdopen(fd, "rb") as file:
        return file.read()


def _open_streams() -> None:
    """Standard streams, of which every clone has other files: no input, and pipes. A stream asks its file
    what it is when it is made."""
    sys.stdin = sys.__stdin__ = _reader(0)  # type: ignore[misc]
    (reading, writing), kept = os.pipe(), (os.dup(1), os.dup(2))
    for number in (1, 2):
        os.dup2(writing, number)
    sys.stdout = sys.__stdout__ = _writer(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _writer(2, errors="backslashreplace", line_buffering=True)  # type: ignore[misc]
    for number, fd in zip((1, 2), kept, strict=True):
        os.dup2(fd, number)
    for fd in (reading, writing, *kept):
        os.close(fd)


def _reader(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedReader(io.FileIO(fd, "r", closefd=False)), encoding="utf-8")


def _writer(fd: int, *, errors: str = "strict", line_buffering: bool = False) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, line_buffering=line_buffering)
