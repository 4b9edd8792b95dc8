"""Running the caller's Python source in a process that is already confined, as `python -c` would.

The interpreter is up and nothing is executed anew: streams, environment, path and `__main__` are made fresh.
"""

from __future__ import annotations

import atexit
import io
import os
import random
import signal
import sys
import threading
import types
from collections.abc import Mapping, Sequence
from typing import Final, TextIO

_SOURCE_FD: Final = 3
_NAME: Final = "<job>"
_HANDLERS: Final = (  # as the interpreter has them when it starts
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGPIPE, signal.SIG_IGN),
    (signal.SIGXFSZ, signal.SIG_IGN),
)
_FLUSH_FAILED: Final = 120  # as CPython does


def run_source(args: Sequence[str], *, env: Mapping[str, str], path: Sequence[str]) -> int:
    """Run the source that is open as descriptor 3. Returns the exit status."""
    source = _read(_SOURCE_FD)
    _become_new(args, env, path)
    code = _run(source)
    return _shut_down(code)


def _read(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()


def _become_new(
    args: Sequence[str], env: Mapping[str, str], path: Sequence[str], *, closefd: bool = True
) -> None:
    _open_streams(closefd=closefd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["-c", *args]
    sys.path[:] = path
    random.seed()
    for number, handler in _HANDLERS:
        signal.signal(number, handler)


def forget_ourselves() -> None:
    """What of this package is loaded is a part, under its name: the job's own import must find the whole."""
    for name in [name for name in sys.modules if name.split(".")[0] == "fumehood"]:
        del sys.modules[name]


def rehearse(env: Mapping[str, str], path: Sequence[str]) -> None:
    """Do once, into nothing, what every job will do: so the pages that it writes are ours before it comes."""
    source = _read(os.open(os.devnull, os.O_RDONLY)) + b"import sys\nprint(1 + 1)\nfor n in range(2): str(n)"
    standing = sys.stdin, sys.stdout, sys.stderr
    _become_new((), env, path, closefd=False)
    _shut_down(_run(source))
    _set_streams(*standing)


def _open_streams(*, closefd: bool = True) -> None:
    raw = io.BufferedWriter(io.FileIO(2, "w", closefd=closefd))
    _set_streams(
        io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "r", closefd=closefd)), encoding="utf-8"),
        io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=closefd)), encoding="utf-8"),
        io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True),
    )


def _set_streams(stdin: TextIO, stdout: TextIO, stderr: TextIO) -> None:
    sys.stdin, sys.stdout, sys.stderr = stdin, stdout, stderr
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = stdin, stdout, stderr  # type: ignore[misc,assignment]


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
