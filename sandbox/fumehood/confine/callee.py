"""The inside end of a call: imports one module, calls one function of it, and writes down what came of it.

Runs in the jail, as the job's own source, with the call as JSON on its standard input. It may know nothing
but the standard library. What it writes is the job's word and no more: the module that it imports can change
everything here, so nothing outside relies on it (see `fumehood.confine.calls`).

The result goes to what was the standard output; whatever the module prints goes to the standard errors.
"""

from __future__ import annotations

import importlib
import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType
from typing import Any, Final, Never

MAX_DEPTH: Final = 62  # below what the caller accepts, by the object that it is sent in
MAX_INT: Final = 2**53
MAX_WORDS: Final = 4000
_GUARD: Final = "fumehood.guard"
_NOT_HERE: Final = "inside a confined function there is no guard: nothing can be decided or recorded here"
#: Every function that a guard was given in here, so that decorators above it do not hide it.
_GIVEN: Final[list[Callable[..., Any]]] = []


class Guard:
    """Stands for `fumehood.Guard` in the jail: opens no policy, no ledger, no engine; decorates nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def tool(self, function: Callable[..., Any] | None = None, /, **_: object) -> Any:
        if function is None:
            return self.tool
        _GIVEN.append(function)
        return function

    def close(self) -> None:
        pass

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Never:
        raise AttributeError(f"{_NOT_HERE} ({name})")


class _Pinned:
    """Finds the modules that the caller named in the files that the caller named, before anything else."""

    def __init__(self, pins: Mapping[str, str]) -> None:
        self._pins = pins

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> Any:
        if name == _GUARD:
            return ModuleSpec(name, self)  # type: ignore[arg-type]
        return _spec(name, self._pins[name]) if name in self._pins else None

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        """The stand-in for the guard's module."""
        module.Guard = Guard  # type: ignore[attr-defined]
        module.current_call = lambda: None  # type: ignore[attr-defined]


def _spec(name: str, file: str) -> ModuleSpec:
    """*name* in *file*, whether or not the folders around it can be listed. (importlib.util loads slowly.)"""
    folder, _, base = file.rpartition("/")
    stem, _, suffix = base.partition(".")
    loader = {"py": SourceFileLoader, "pyc": SourcelessFileLoader}.get(suffix, ExtensionFileLoader)
    spec = ModuleSpec(name, loader(name, file), origin=file, is_package=stem == "__init__")
    spec.has_location = True
    if spec.submodule_search_locations is not None:
        spec.submodule_search_locations.append(folder)
    return spec


class _NotJson(Exception):
    def __init__(self, what: str, at: str) -> None:
        super().__init__(what, at)


def main() -> None:
    """Take the call, make it, write one JSON object, and end with status 0 if it holds a result."""
    call = json.loads(sys.stdin.buffer.read())
    result = os.dup(1)
    os.dup2(2, 1)
    encode = json.JSONEncoder(allow_nan=False).encode  # before the module can change it by accident
    sys.path[:0] = call["path"]
    sys.meta_path.insert(0, _Pinned(call["pins"]))
    answer = _answer(call, encode)
    _write(result, answer.encode())
    os.close(result)
    if not answer.startswith('{"result"'):
        sys.exit(1)


def _answer(call: Mapping[str, Any], encode: Callable[[object], str]) -> str:
    step = "import"
    try:
        function = _found(importlib.import_module(call["module"]), call)
        step = "raised"
        value = function(*call["args"], **call["kwargs"])
        if inspect.iscoroutine(value):
            import asyncio

            value = asyncio.run(value)
        step = "not_json"
        _require_json(value, "", 0)
        return encode({"result": value})
    except _NotJson as error:
        return encode({"not_json": [_plain(part) for part in error.args]})
    except BaseException as error:  # noqa: BLE001 - told to the caller, whatever it is
        sys.excepthook(type(error), error, error.__traceback__ and error.__traceback__.tb_next)
        return encode({step: [_plain(type(error).__qualname__), _words(error)]})


def _found(module: ModuleType, call: Mapping[str, Any]) -> Callable[..., Any]:
    """What a guard was given under this name, or what the module has under it, or what that wraps."""
    name, wanted = call["name"], call["layers"]
    given = [function for function in reversed(_GIVEN) if _is_called(function, module.__name__, name)]
    named = list(chain(getattr(module, name, None)))
    for candidate in [*given, *named] if wanted else named:
        if callable(candidate) and wanted in (None, layers(candidate)):
            return candidate  # type: ignore[no-any-return]
    if not given and not named:
        raise AttributeError(f"module {module.__name__!r} has no function {name!r}")
    raise AttributeError(f"{module.__name__}:{name} is not the function that was meant: another, or changed")


def chain(function: object) -> Iterator[object]:
    """*function* and what it wraps, the outermost first."""
    for _ in range(MAX_DEPTH):
        if function is None:
            return
        yield function
        function = getattr(function, "__wrapped__", None)


def layers(function: object) -> list[list[object]]:
    """What tells a function from another of its name: where it and each decorator around it begin."""
    codes = [(layer, getattr(layer, "__code__", None)) for layer in chain(function)]
    return [
        [type(layer).__qualname__, code.co_name, code.co_firstlineno]
        if isinstance(code, CodeType)
        else [type(layer).__qualname__]
        for layer, code in codes
    ]


def _is_called(function: object, module: str, name: str) -> bool:
    return (getattr(function, "__module__", ""), getattr(function, "__name__", "")) == (module, name)


def _require_json(value: object, at: str, depth: int) -> None:
    """Exactly what JSON holds and reads back as it was: no subclass, no tuple, no number that is not one."""
    if depth > MAX_DEPTH:
        raise _NotJson(f"something nested deeper than {MAX_DEPTH} levels", at)
    kind = type(value)
    if isinstance(value, dict) and kind is dict:
        for key, item in value.items():
            if type(key) is not str or not _is_unicode(key):
                raise _NotJson(f"an object with a {type(key).__qualname__} as key", at)
            _require_json(item, f"{at}/{key.replace('~', '~0').replace('/', '~1')}", depth + 1)
    elif isinstance(value, list) and kind is list:
        for index, item in enumerate(value):
            _require_json(item, f"{at}/{index}", depth + 1)
    else:
        problem = _problem(value, kind)
        if problem:
            raise _NotJson(problem, at)


def _problem(value: Any, kind: type) -> str:
    if kind is str:
        return "" if value.isascii() or _is_unicode(value) else "text with a lone surrogate"
    if kind is int or kind is float:
        if kind is float and not math.isfinite(value):
            return "a number that is not finite"
        return "" if abs(value) < MAX_INT else "a number of 2**53 or more (return it as text)"
    return "" if value is None or kind is bool else f"a {kind.__qualname__}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _words(error: BaseException) -> str:
    try:
        return _plain(str(error))
    except BaseException:  # noqa: BLE001 - its text is a program, too
        return ""


def _plain(text: str) -> str:
    return text[:MAX_WORDS].encode("utf-8", "replace").decode()


def _write(fd: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(fd, view) :]
