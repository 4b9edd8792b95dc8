"""Loads policies in a process apart: reading and checking a thousand rules takes a quarter of a second of
processor time, and in this process every call would wait for it.

The process knows what it parsed the last time, so that only files that changed are parsed again. Its
answers are read back as values of our own types and nothing else.
"""

from __future__ import annotations

import gc
import io
import json
import os
import pickle
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import IO

from fumehood.errors import ConfigError, FumehoodError, PdpError, Problem
from fumehood.observe_mode import Mode
from fumehood.pdp import gate
from fumehood.pdp.apart import EngineApart
from fumehood.pdp.aside import give_way
from fumehood.pdp.bundle import Bundle, load_bundle
from fumehood.pdp.keys import BundleKey, Keys
from fumehood.pdp.sources import PolicyFile
from fumehood.pdp.syntax import Module, module_of

__all__ = ["Loader", "serve"]

Source = str | os.PathLike[str]
WITHIN_S = 30.0
PAUSE_S = 1.0  # workers are made ready for what was checked: leave them the processors
PATIENCE_S = 3.0  # after so long the process that gave way to everybody is one that does not
_HEADER = struct.Struct("!I")
_MAX_ANSWER = 256 << 20
_CODE = (
    "import sys, json; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from fumehood.pdp.loading import serve; serve(gives_way={})"
)


class Loader:
    """Loads the bundle of *sources* whenever it is asked to; with *keys*, only if signed with one.
    *mode* says which packages are only watched. Thread-safe; after a fork it starts anew."""

    def __init__(self, sources: Sequence[Source], keys: Keys = (), mode: Mode = Mode.ENFORCE) -> None:
        each = [_absolute(source) for source in sources]
        self._asked = {"sources": each, "keys": [asdict(key) for key in keys], "mode": mode.value}
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._gives_way = True
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin the process, so that it is there when it is needed.

        Raises:
            ConfigError: it cannot be begun.
        """
        self._own()
        with self._lock:
            self._start()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _CODE.format(self._gives_way)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
            self._tell([entry for entry in sys.path if entry])
        except OSError as error:
            raise ConfigError(f"the process that checks policies cannot be started: {error}") from error

    def load(self) -> Bundle:
        """The bundle as it is now.

        Raises:
            ConfigError: it cannot be used, with every problem; or it cannot be checked.
        """
        self._own()
        with self._lock:
            try:
                self._ask()
                if self._is_starved():
                    self._end()
                    self._gives_way = False
                    self._ask()
                said = _answer(self._receive())
            except (OSError, EOFError, pickle.UnpicklingError, ValueError) as error:
                self._end()
                raise ConfigError(f"the policies could not be checked: {error}") from error
        if isinstance(said, Bundle):
            return said
        message, problems = said
        raise ConfigError(message, problems=problems)

    def close(self) -> None:
        """End the process."""
        if self._pid in (0, os.getpid()):
            self._end()

    def _own(self) -> None:
        """A forked child has a copy of the parent's pipes, and no right to them."""
        if self._pid != os.getpid():
            self._process, self._pid, self._lock = None, os.getpid(), threading.Lock()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.wait()

    def _ask(self) -> None:
        self._start()
        self._tell(self._asked)

    def _is_starved(self) -> bool:
        """True if it said nothing for a while and was hardly let work: the host is busy with other things."""
        process = self._process
        if process is None or not self._gives_way:
            return False
        if select.select([_pipe(process.stdout)], [], [], min(PATIENCE_S, WITHIN_S))[0]:
            return False
        return time.clock_gettime((~process.pid << 3) | 2) < PATIENCE_S / 2  # see clock_getcpuclockid(3)

    def _tell(self, what: object) -> None:
        pipe = _pipe(self._process.stdin if self._process else None)
        pipe.write(json.dumps(what).encode() + b"\n")
        pipe.flush()

    def _receive(self) -> bytes:
        pipe = _pipe(self._process.stdout if self._process else None)
        until = time.monotonic() + WITHIN_S
        size = _HEADER.unpack(_read(pipe, _HEADER.size, until))[0]
        if size > _MAX_ANSWER:
            raise ValueError("the answer is too long")
        return _read(pipe, size, until)


def _absolute(source: Source) -> str:
    """A pack's name as it is, a folder's path so that it means the same whatever the current folder is."""
    text = os.fspath(source)
    return text if isinstance(source, str) and "/" not in text else os.path.abspath(text)  # noqa: PTH100


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise OSError("the process that checks policies is gone")
    return pipe


def _read(pipe: IO[bytes], size: int, until: float) -> bytes:
    """*size* bytes of a pipe. Raises EOFError, or OSError (TimeoutError) when it is too late."""
    parts: list[bytes] = []
    while size:
        if not select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
            raise TimeoutError(f"checking them took longer than {WITHIN_S:g} s")
        part = os.read(pipe.fileno(), min(size, 1 << 20))
        if not part:
            raise EOFError("the process that checks policies ended")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class _Reader(pickle.Unpickler):
    """Reads values of our own types: the process parses what others wrote, and is not simply believed."""

    def find_class(self, module: str, name: str) -> object:
        if module.startswith("fumehood.pdp.") or (module, name) in _KNOWN:
            found = super().find_class(module, name)
            if isinstance(found, type) and hasattr(found, "__dataclass_fields__"):
                return found
            if found is Problem:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a bundle")


_KNOWN = frozenset(
    {
        ("fumehood.errors", "Problem"),
        ("fumehood.model", "PolicyFacts"),
        ("fumehood.observe_mode", "Observing"),
    }
)


def _answer(data: bytes) -> Bundle | tuple[str, tuple[Problem, ...]]:
    said = _Reader(io.BytesIO(data)).load()
    if isinstance(said, Bundle):
        return said
    if isinstance(said, tuple) and len(said) == 2 and isinstance(said[0], str) and isinstance(said[1], tuple):
        return said
    raise ValueError("the answer is neither a bundle nor a refusal")


# --- in the process ----------------------------------------------------------------------------------


def serve(*, gives_way: bool) -> None:
    """Answer on standard output for each line of sources, keys and mode on standard input."""
    parsed, engines = _Parsed(), _Engines()
    if gives_way:
        give_way()
    else:
        os.nice(5)
    gc.disable()  # syntax trees are large, have no cycles, and are kept
    engines.prepare()
    for line in sys.stdin.buffer:
        said: object
        try:
            asked = json.loads(line)
            keys = tuple(BundleKey(**key) for key in asked["keys"])
            mode = Mode(asked["mode"])
            said = load_bundle(asked["sources"], signed_by=keys, mode=mode, parse=parsed, engine=engines)
        except ConfigError as error:
            said = (str(error).partition("\n")[0], error.problems)
        except (FumehoodError, OSError) as error:
            said = (f"the policies could not be checked: {error}", ())
        data = pickle.dumps(said)
        sys.stdout.buffer.write(_HEADER.pack(len(data)) + data)
        sys.stdout.buffer.flush()
        parsed.forget()
        if not select.select([sys.stdin.buffer], [], [], PAUSE_S)[0]:
            engines.prepare()


class _Parsed:
    """Parses files, and knows those of the last time."""

    def __init__(self) -> None:
        self._before: dict[PolicyFile, Module | Problem] = {}
        self._now: dict[PolicyFile, Module | Problem] = {}

    def __call__(self, file: PolicyFile) -> Module | Problem:
        found = self._before.get(file)
        self._now[file] = found = module_of(file) if found is None else found
        return found

    def forget(self) -> None:
        """What was not asked for since the last time is gone."""
        self._before, self._now = self._now, {}


class _Engines:
    """Starts the process in which rules are tried before it is needed."""

    def __init__(self) -> None:
        self._next: EngineApart | None = None

    def __call__(self) -> EngineApart:
        self.prepare()
        engine, self._next = self._next, None
        return engine or gate.trial_engine()

    def prepare(self) -> None:
        if self._next is None:
            with suppress(PdpError):  # who needs it tries again, and tells
                self._next = gate.trial_engine()
