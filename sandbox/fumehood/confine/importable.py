"""Which functions can be called in another process: found again by `module:name`, without running anything.

Inside, a function's top-level package (or its one file) is imported from the very file that it has here,
before anything else, so that no other module of the same name can take its place.
"""

# a path here is checked text
# ruff: noqa: PTH110, PTH113, PTH117, PTH118, PTH119, PTH120

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from types import FunctionType
from typing import Final

from fumehood.confine.callee import chain, layers
from fumehood.errors import ConfigError

_MOVE: Final = "move it to the top level of a module that can be imported"


@dataclass(frozen=True, slots=True)
class Importable:
    """A function by name. `layers` tell it and its decorators from others (empty if nobody looked); `origin`
    is the file of its top-level module, `shown` what of that a jail must see: the package, or the file."""

    module: str
    name: str
    layers: tuple[tuple[object, ...], ...]
    top: str
    origin: str
    shown: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


def importable(function: Callable[..., object]) -> Importable:
    """*function* as it can be found again.

    Raises:
        ConfigError: it cannot; says why, and what to do.
    """
    own = _require_function(function)
    module, name = own.__module__, own.__qualname__
    _require_top_level(own, module, name)
    loaded = sys.modules.get(module)
    spec = getattr(loaded, "__spec__", None)
    if loaded is None or not isinstance(spec, ModuleSpec) or own.__globals__ is not vars(loaded):
        raise _refused(name, f"the module {module!r} that can be imported is not the one it was defined in")
    file = own.__code__.co_filename
    if not os.path.exists(file) or os.path.realpath(file) != os.path.realpath(spec.origin or ""):
        raise _refused(
            name, f"it was not read from the file of the module {module!r}", "leave it in its file"
        )
    _require_name(function, name, vars(loaded), is_loading=getattr(spec, "_initializing", False))
    top = getattr(sys.modules.get(module.partition(".")[0]), "__spec__", None)
    return _located(name, tuple(map(tuple, layers(function))), spec, top)


def _require_name(
    function: Callable[..., object], name: str, names: Mapping[str, object], *, is_loading: bool
) -> None:
    """Once its module is loaded, its name must lead to it: inside, nobody decorates it again."""
    if not is_loading and not any(found is function for found in chain(names.get(name))):
        text = "the name in its module leads to another object, or it was decorated elsewhere"
        raise _refused(name, text, "decorate it where it is defined")


def find(target: str) -> Importable:
    """The function that *target* ("package.module:function") names. Nothing is imported.

    Raises:
        ConfigError: there is no such module, or it cannot be imported inside a jail.
    """
    module, _, name = target.partition(":")
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(f"{target!r} does not name a function; write package.module:function")
    specs: list[ModuleSpec] = []
    path: list[str] | None = None
    for count in range(1, module.count(".") + 2):
        full = ".".join(module.split(".")[:count])
        spec = getattr(sys.modules.get(full), "__spec__", None) or _searched(full, path)
        if spec is None:
            raise ConfigError(f"{target}: there is no module {full!r} on sys.path")
        if spec.origin is None:
            raise _refused(target, f"{full!r} is a namespace package", "add its __init__.py")
        specs.append(spec)
        path = list(spec.submodule_search_locations or ())
    return _located(name, (), specs[-1], specs[0])


def _searched(module: str, path: list[str] | None) -> ModuleSpec | None:
    try:
        return PathFinder.find_spec(module, path)
    except KeyError:  # a namespace package asks for its parent, which is not imported
        return ModuleSpec(module, None, is_package=True)


def _require_function(function: Callable[..., object]) -> FunctionType:
    """What *function* is, below its decorators."""
    called = getattr(function, "__name__", type(function).__name__)
    if isinstance(function, functools.partial):
        raise _refused("a partial", "it has no name", "write a function that calls it")
    if inspect.ismethod(function):
        raise _refused(called, "it is a method, and its object stays in this process", _MOVE)
    *_, own = chain(function)
    if inspect.isclass(own) or not isinstance(own, FunctionType):
        text = f"a {type(own).__name__} is not a function written in Python"
        raise _refused(called, text, "give the function itself, or write one that calls it")
    if inspect.isgeneratorfunction(own) or inspect.isasyncgenfunction(own):
        raise _refused(called, "it is a generator", "return a list")
    return own


def _require_top_level(own: FunctionType, module: str, name: str) -> None:
    if own.__name__ == "<lambda>":
        raise _refused("a lambda", "it has no name", "write a function")
    if "<locals>" in name or own.__code__.co_freevars:
        text = "it is defined inside another function (so looks a decorator without functools.wraps)"
        raise _refused(name, text, _MOVE)
    if "." in name:
        raise _refused(name, "it is defined in a class", _MOVE)
    if module in ("__main__", "__mp_main__"):
        text = "it is defined in the program itself, which is not imported by name"
        raise _refused(name, text, "put it into a module of its own and import that")


def _located(
    name: str, found: tuple[tuple[object, ...], ...], spec: ModuleSpec, top: ModuleSpec | None
) -> Importable:
    """Check that inside, *spec*'s name leads to its file again, from its top-level package down."""
    if top is None or not _is_file(top.origin) or not _is_file(spec.origin):
        text = f"{spec.name!r} is not read from a file in a folder (built in, a namespace package, a zip?)"
        raise _refused(name, text, "add the __init__.py files, or install the package unpacked")
    origin, own = os.path.realpath(str(top.origin)), os.path.realpath(str(spec.origin))
    is_package = top.submodule_search_locations is not None
    shown = os.path.dirname(origin) if is_package else origin
    if top.name in sys.stdlib_module_names and not _is_standard(origin):
        raise _refused(name, f"{top.name!r} is a module of the standard library, too", "rename yours")
    _require_plain_path(name, spec, own, shown if is_package else os.path.dirname(origin))
    return Importable(spec.name, name, found, top.name, origin, shown)


def _require_plain_path(name: str, spec: ModuleSpec, own: str, folder: str) -> None:
    """*own* lies where the dots in the module's name say, and every folder on the way is a package."""
    *packages, last = spec.name.split(".")
    inner = os.path.join(folder, *packages[1:])
    if spec.submodule_search_locations is not None:
        inner = os.path.join(inner, last) if packages else inner
    stem = os.path.basename(own).partition(".")[0]
    if os.path.dirname(own) != inner or (packages and stem not in (last, "__init__")):
        text = f"the module {spec.name!r} lies in {own}, reached through a link or another search path"
        raise _refused(name, text, "give the module one place of its own")
    for count in range(1, len(packages)):
        place = os.path.join(folder, *packages[1 : count + 1])
        if not os.path.isfile(os.path.join(place, "__init__.py")):
            raise _refused(name, f"{place} is a namespace package", f"add {place}/__init__.py")


def _is_file(origin: str | None) -> bool:
    return origin is not None and os.path.isabs(origin) and os.path.isfile(origin)


def _is_standard(origin: str) -> bool:
    return origin.startswith(os.path.join(os.path.realpath(os.path.dirname(os.__file__)), ""))


def _refused(name: str, why: str, remedy: str = _MOVE) -> ConfigError:
    return ConfigError(f"{name} cannot run in a process of its own: {why}; {remedy}")
