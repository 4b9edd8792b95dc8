"""Running the caller's Python source in a process that is already confined, as `python -c` would.

The interpreter is up and nothing is executed anew: streams, environment, path and `__main__` are made fresh.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import atexit
import io
import os
import random
import sys
import threading
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

set_signal: Final = _signal.signal

_NAME: Final = "<job>"
#: As the interpreter has them when it starts. Plain numbers, since `signal.signal` looks up enumerations,
#: and every page that a job's process writes first has to be copied for it.
_HANDLERS: Final = (
    (_signal.SIGINT, _signal.default_int_handler),
    (_signal.SIGPIPE, _signal.SIG_IGN),
    (_signal.SIGXFSZ, _signal.SIG_IGN),
)
_FLUSH_FAILED: Final = 120  # as CPython does


def run_source(source: str | int, args: Sequence[str], env: Iterable[tuple[str, str]]) -> int:
    """Run *source*, or what is open as that descriptor. Returns the exit status. `rehearse` comes first."""
    text = source.encode() if isinstance(source, str) else _read(source)
    sys.stdin = sys.__stdin__ = _reader(0)  # type: ignore[misc]
    for name, value in env:
        os.environ[name] = value
    sys.argv = ["-c", *args]
    _draw_anew()
    code = _run(text)
    return _shut_down(code)


def _draw_anew() -> None:
    """Jobs that are clones of one process would otherwise all draw the same numbers."""
    random.seed()
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()


def _read(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()


def forget_ourselves() -> None:
    """What of this package is loaded is a part, under its name: the job's own import must find the whole."""
    for name in [name for name in sys.modules if name.split(".")[0] == "fumehood"]:
        del sys.modules[name]


def rehearse(env: Mapping[str, str]) -> None:
    """Become what every job finds, and do once, into nothing, what it will do: so that the pages which that
    writes are this process's own before the job comes."""
    for name, value in env.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    for number, handler in _HANDLERS:
        set_signal(number, handler)
    random.seed()
    sys.stdin = _reader(0, closefd=False)
    sys.stdout = _writer(1, closefd=False)
    _read(os.open(os.devnull, os.O_RDONLY))
    _run(b"import sys\nprint(1 + 1)\nfor n in range(2): str(n)")
    sys.stdout.flush()


def open_output() -> None:
    """Standard output and errors, as they are now."""
    sys.stdout = sys.__stdout__ = _writer(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _writer(2, errors="backslashreplace", line_buffering=True)  # type: ignore[misc]


def _reader(fd: int, *, closefd: bool = True) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedReader(io.FileIO(fd, "r", closefd=closefd)), encoding="utf-8")


def _writer(
    fd: int, *, closefd: bool = True, errors: str = "strict", line_buffering: bool = False
) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=closefd))
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, line_buffering=line_buffering)


def _run(source: bytes) -> int:
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    try:
        exec(compile(source, _NAME, "exec", dont_inherit=True), main.__dict__)  # noqa: S102 — the job itself
    except SystemExit as ending:
        return _status(ending.code)
    except BaseException as error:  # noqa: BLE001 — the interpreter's own last handler
        trace = error.__traceback__.tb_next if error.__traceback__ else None  # without this function's frame
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return 1
    return 0


def _status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def _shut_down(code: int) -> int:
    """What the interpreter does at its end: threads, exit handlers, buffers."""
    if threading.active_count() > 1 or threading._threading_atexits:  # type: ignore[attr-defined]
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return _FLUSH_FAILED
    return code
