"""Calling a function by name in a process of its own: JSON in, JSON out.

    from fumehood import confine

    totals = confine.call("reports:totals", {"path": "/data/march.csv"}, read=["/data"])

The call goes in as a sealed file and the result comes back over a pipe of its own, apart from what the
function prints. What comes out is text until it has been parsed and checked here: nothing is unpickled or
evaluated, and an exception arrives as the name and the words of one.
"""

from __future__ import annotations

import json
import marshal
import os
import pkgutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fumehood.canonical import JSON, parse, require_plain
from fumehood.confine.api import astart, start
from fumehood.confine.importable import Importable, find
from fumehood.confine.spec import Spec
from fumehood.display import clip, inert
from fumehood.errors import BindError, ConfinementError, JobFailed

if TYPE_CHECKING:
    from fumehood.confine.outcome import Outcome

_PACKAGE: Final = Path(__file__).resolve().parents[1]
_MAX_NAME: Final = 200
_MAX_WORDS: Final = 4000
_MAX_PRINTED: Final = 8000
_HINT: Final = (
    "Inside there are the standard library, installed packages and its own package; "
    "what else it imports has to be shown with `read`."
)
_IMPORT_ERRORS: Final = ("ImportError", "ModuleNotFoundError")
_ENDINGS: Final = {
    "signal": "ended by a signal",
    "filter": "ended by the system-call filter: it asked the kernel for what its profile does not allow",
    "deadline": "ended: it ran longer than its time limit",
    "cpu": "ended: it used more processor time than cpu_s allows",
    "memory": "ended: it used more memory than memory_bytes allows",
    "output": "ended: it printed or returned more than output_bytes allows",
    "processes": "ended: it had more processes than its profile allows",
    "disk": "ended: it wrote more than disk_bytes or inodes allows",
    "stopped": "stopped",
    "not_started": "not started",
    "spawner": "lost: the process that watched it died",
}


def call(target: str, arguments: Mapping[str, JSON] | None = None, **options: Any) -> JSON:
    """Call the function that *target* ("package.module:function") names, confined, and wait for its result.

    *options* are those of `Spec`: `profile`, `env`, `timeout_s`, `read`, `write`, `limits`, `tier`,
    `forbidden_paths`. The module is imported inside, never here.

    Raises:
        ConfigError: *target* names nothing that can be imported inside.
        BindError: *arguments* are not JSON.
        JobFailed: it raised, was ended, or returned what is not JSON.
        ConfinementError: this host cannot confine as asked; nothing ran.
    """
    function = find(target)
    return result_of(function, start(_spec(function, arguments or {}, options)).wait())


async def acall(target: str, arguments: Mapping[str, JSON] | None = None, **options: Any) -> JSON:
    """As `call`, without blocking the loop. Cancelling kills the job."""
    function = find(target)
    job = await astart(_spec(function, arguments or {}, options))
    return result_of(function, await job.finished())


def _spec(function: Importable, arguments: Mapping[str, JSON], options: dict[str, Any]) -> Spec:
    require_plain(dict(arguments))
    shown = [*options.pop("read", ()), *options.get("write", ())]
    options["read"] = visible(function, shown)
    options["stdin"] = message(function, (), arguments, shown=shown)
    return Spec(source=source(), **options)


# --- what goes in ----------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def source() -> str:
    """What runs inside: compiled here, once, by the interpreter that runs it there."""
    text = pkgutil.get_data(__name__.rpartition(".")[0], "callee.py")
    if text is None:
        raise ConfinementError("callee.py is missing", layer="profile", remedy="Install the package anew.")
    code = compile(text + b"\n\nmain()\n", "<fumehood>", "exec", dont_inherit=True)
    return f"import marshal\nexec(marshal.loads({marshal.dumps(code)!r}))\n"


def message(
    function: Importable, args: Sequence[JSON], kwargs: Mapping[str, JSON], *, shown: Sequence[str]
) -> bytes:
    """One call, for the job's standard input. *shown* are paths whose modules may be imported as here."""
    pins = {function.top: function.origin, "fumehood": str(_PACKAGE / "__init__.py")}
    fields = {
        "module": function.module,
        "name": function.name,
        "layers": [list(layer) for layer in function.layers] or None,
        "pins": pins,
        "path": _importable_from(shown),
        "args": list(args),
        "kwargs": dict(kwargs),
    }
    return json.dumps(fields, allow_nan=False).encode()


def visible(function: Importable, shown: Iterable[str]) -> tuple[str, ...]:
    """What a jail must be shown for *function* to be found in it: its own package, and *shown*."""
    from fumehood.confine.prepare import here

    host = here()
    needed = [path for path in (function.shown, str(_PACKAGE)) if not _is_any(path, _there(host))]
    return tuple(sorted({*needed, *shown}))


def _there(host: Any) -> tuple[str, ...]:
    return (*host.system, *host.python_roots)


def _is_any(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _importable_from(shown: Sequence[str]) -> list[str]:
    """The entries of this process's sys.path that lie in what is *shown*, in their order."""
    folders = [os.path.realpath(path) for path in shown]
    return [path for path in map(os.path.realpath, sys.path) if _is_any(path, folders)]


# --- what comes out --------------------------------------------------------------------------------------


def result_of(function: Importable, outcome: Outcome) -> JSON:
    """The result in *outcome*.

    Raises:
        JobFailed: there is none.
    """
    answer = _answer(outcome)
    printed = _tail(outcome.stderr)
    if outcome.exit.is_success and set(answer) == {"result"}:
        return answer["result"]
    if outcome.exit.kind == "exited":
        raise _failed(str(function), answer, outcome.exit.code, printed)
    ending = _ENDINGS.get(outcome.exit.kind, outcome.exit.kind)
    number = f" {outcome.exit.code}" if outcome.exit.kind == "signal" else ""
    raise JobFailed(f"{function} was {ending}{number}", kind=outcome.exit.kind, printed=printed)


def _answer(outcome: Outcome) -> dict[str, JSON]:
    """The one JSON object that the job wrote; empty if it wrote none that is whole and plain."""
    try:
        answer = parse(outcome.stdout)
        require_plain(answer)
    except (BindError, UnicodeDecodeError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _failed(name: str, answer: dict[str, JSON], code: int, printed: str) -> JobFailed:
    kind, said = next(iter(answer.items()), ("", None))
    if not (kind in ("raised", "import", "not_json") and isinstance(said, list) and len(said) == 2):
        text = f"{name} ended with status {code}, without a result that can be read"
        return JobFailed(text, kind="no_result", printed=printed)
    what = inert(clip(str(said[0]), _MAX_NAME))
    words = inert(clip(str(said[1]), _MAX_WORDS), multiline=True)
    if kind == "not_json":
        place = f" at {words}" if words else ""
        text = f"{name} returned what is not JSON: {what}{place}; return text, numbers, lists and objects"
        return JobFailed(text, kind=kind, printed=printed)
    does = "cannot be imported inside" if kind == "import" else "raised"
    text = f"{name} {does}; it says: {what}: {words}" + (f". {_HINT}" if what in _IMPORT_ERRORS else "")
    return JobFailed(text, kind=kind, type_name=what, text=words, printed=printed)


def _tail(body: bytes) -> str:
    return inert(body[-_MAX_PRINTED:].decode("utf-8", "replace"), multiline=True)


__all__ = ["acall", "call", "message", "result_of", "source", "visible"]
