"""Binds arguments, once, to the one canonical document that is decided, shown, recorded and run.

Arguments are validated by the tool's schema (defaults filled in) and dumped to JSON; that document
is validated again and must give an equal object and dump to itself; the object so made is what
runs. So an excluded or masked field, a value that changes under its own serialiser, or anything
that JSON cannot carry is a `BindError` that names the place, never a difference between what was
decided and what ran.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from fumehood.canonical import JSON, canonical, digest, escape, mac, parse, require_small
from fumehood.errors import BindError, ConfigError
from fumehood.model import (
    SQL_DIALECTS,
    Annotations,
    Confine,
    Kind,
    Origin,
    Runs,
    Session,
    Subject,
    ToolCall,
    ToolDefinition,
)

__all__ = [
    "Body",
    "Bound",
    "annotations_from",
    "bind_model",
    "bind_plain",
    "call_digest",
    "define",
    "make_call",
]


@dataclass(frozen=True, slots=True)
class Bound:
    """Arguments, bound: `args` is canonical JSON, `value` the object made from it that will run.

    `defaults` names the arguments that the caller did not give; `injected` those that the framework
    adds after the decision, which are not bound.
    """

    args: bytes
    value: object
    defaults: tuple[str, ...] = ()
    injected: tuple[str, ...] = ()


class Body(Protocol):
    """One call of a tool as an adapter hands it over: everything that depends on the tool's framework.

    `view` gives a result (or the exception that the tool raised) as JSON: what policy sees and what
    the record keeps. `rebuild` makes a result of the same type from a redacted view.
    """

    @property
    def definition(self) -> ToolDefinition: ...
    @property
    def call_id(self) -> str | None: ...
    def bind(self) -> Bound: ...
    def run(self, bound: Bound, confinements: tuple[Confine, ...], /) -> object: ...
    async def arun(self, bound: Bound, confinements: tuple[Confine, ...], /) -> object: ...
    def view(self, result: object, /) -> tuple[JSON, bool]:
        """The JSON view, and whether `replay` could make an equal result of it."""
        ...

    def rebuild(self, result: object, view: JSON, /) -> object: ...
    def replay(self, view: JSON, /) -> object:
        """The result of an earlier, finished attempt, from what was kept of it."""
        ...

    def is_interrupt(self, error: BaseException, /) -> bool:
        """True if *error* is the framework's control flow (run me again later), not a failure."""
        ...

    @property
    def is_async(self) -> bool:
        """True if the tool's own body is a coroutine; else it is run in a thread when awaited."""
        ...


def bind_model(schema: type[BaseModel], arguments: Mapping[str, object]) -> Bound:
    """Bind *arguments* by a pydantic model.

    Raises:
        BindError: names the argument by JSON Pointer and says what to declare instead.
    """
    require_small(arguments)
    try:
        first = schema.model_validate(dict(arguments))
        args = canonical(_dump(first))
    except ValidationError as error:
        raise _invalid(error) from error
    second = _read_back(schema, args)
    if first != second or type(first) is not type(second):
        pointer = _difference(first, second) or ""
        raise BindError(
            f"the argument at {pointer or '/'} does not survive JSON (an excluded, masked or lossy field); "
            "declare it so that its dump can be read back, or inject it at run time",
            pointer=pointer,
        )
    if canonical(_dump(second)) != args:
        raise BindError("the arguments change each time they are written as JSON; use a stable serialiser")
    return Bound(args, second, _defaults(first))


def _defaults(model: BaseModel) -> tuple[str, ...]:
    """The fields at a default that the schema states; one that is computed may be anybody's."""
    fields = type(model).model_fields
    unset = (n for n in fields if n not in model.model_fields_set)
    return tuple(
        n for n in unset if fields[n].default_factory is None and getattr(model, n) == fields[n].default
    )


def bind_plain(arguments: Mapping[str, object]) -> Bound:
    """Bind arguments that have no schema: they must already be plain JSON.

    Raises:
        BindError: something in them is not.
    """
    require_small(arguments)
    args = canonical(dict(arguments))
    return Bound(args, parse(args))


def define(
    name: str,
    *,
    description: str = "",
    schema: Mapping[str, object] | None = None,
    annotations: Annotations | Mapping[str, object] | None = None,
    runs: Runs = Runs.IN_PROCESS,
) -> ToolDefinition:
    """A tool's frozen identity. *schema* is the JSON Schema of its arguments.

    Raises:
        ConfigError: annotations name an argument that the schema does not have.
    """
    if not name:
        raise ConfigError("a tool needs a name")
    notes = annotations if isinstance(annotations, Annotations) else annotations_from(name, annotations or {})
    described = canonical(json.loads(json.dumps(schema or {}, default=str)))
    _check_names(name, notes, cast("dict[str, JSON]", parse(described)), has_schema=bool(schema))
    identity = {
        "name": name,
        "description": description,
        "schema": parse(described),
        "runs": runs.value,
        "annotations": as_json(notes),
    }
    return ToolDefinition(name, description, described, notes, runs, digest(canonical(identity)))


def annotations_from(tool: str, given: Mapping[str, object]) -> Annotations:
    """Annotations from a plain mapping such as `{"kind": "money", "target": ["order_id"]}`.

    Raises:
        ConfigError: an unknown key, kind or origin, or a value of the wrong type.
    """
    known = {f: given[f] for f in Annotations.__dataclass_fields__ if f in given}
    strange = sorted(set(given) - set(known))
    if strange:
        allowed = ", ".join(Annotations.__dataclass_fields__)
        raise ConfigError(f"annotations of {tool!r}: {strange[0]!r} is not known; write one of: {allowed}")
    try:
        kind = Kind(cast("str", known.pop("kind"))) if known.get("kind") is not None else None
        known.pop("kind", None)
        result = Origin(cast("str", known.pop("result", Origin.UNTRUSTED)))
        dialect = _dialect(tool, known.pop("sql_dialect", None))
    except ValueError as error:
        raise ConfigError(f"annotations of {tool!r}: {error}; kinds are {', '.join(Kind)}") from error
    names = {k: _names(tool, k, v) for k, v in known.items()}
    return Annotations(kind=kind, result=result, sql_dialect=dialect, **names)


def _dialect(tool: str, given: object) -> str | None:
    if given is None or (isinstance(given, str) and given in SQL_DIALECTS):
        return given
    allowed = ", ".join(sorted(SQL_DIALECTS))
    raise ConfigError(f"annotations of {tool!r}: sql_dialect={given!r} is not known; write one of: {allowed}")


def as_json(notes: Annotations) -> dict[str, JSON]:
    """*notes* as JSON; what was not said is absent."""
    lists = ("target", "object", "content", "secret", "trusted", "internal", "secret_result")
    said: dict[str, JSON] = {name: list(getattr(notes, name)) for name in lists if getattr(notes, name)}
    if notes.kind is not None:
        said["kind"] = notes.kind.value
    if notes.result is not Origin.UNTRUSTED:
        said["result"] = notes.result.value
    if notes.sql_dialect is not None:
        said["sql_dialect"] = notes.sql_dialect
    return said


def make_call(
    definition: ToolDefinition,
    session: Session,
    bound: Bound,
    *,
    call_id: str | None = None,
    parent_attempt_id: str | None = None,
) -> ToolCall:
    """The bound call, with a fresh key and attempt id."""
    key = secrets.token_bytes(32)
    return ToolCall(
        tool=definition,
        session=session,
        args=bound.args,
        digest=call_digest(key, definition, session, bound.args),
        key=key,
        attempt_id=secrets.token_hex(8),
        call_id=call_id,
        injected=bound.injected,
        parent_attempt_id=parent_attempt_id,
    )


def call_digest(key: bytes, definition: ToolDefinition, session: Session, args: bytes) -> str:
    """The keyed digest that approvals and claims are bound to.

    It is over the canonical JSON of `{"args", "definition", "subject": {"id", "roles", "user"}, "tool"}`,
    put together from parts that are canonical already.
    """
    before, after = _identity(definition, session.subject)
    return mac(key, b"".join((b'{"args":', args, before, after)))


@lru_cache(maxsize=4096)
def _identity(definition: ToolDefinition, who: Subject) -> tuple[bytes, bytes]:
    """What follows the arguments in the digest's document; the same for every call of a tool by a subject."""
    subject = canonical({"id": who.id, "roles": list(who.roles), "user": who.user})
    before = b',"definition":' + canonical(definition.digest) + b',"subject":' + subject
    return before, b',"tool":' + canonical(definition.name) + b"}"


def _read_back(schema: type[BaseModel], args: bytes) -> BaseModel:
    try:
        return schema.model_validate_json(args)
    except ValidationError as error:
        failed = _invalid(error)
        raise BindError(
            f"what the arguments dump to cannot be read back ({failed}); an excluded or masked field?",
            pointer=failed.pointer,
        ) from error


def _dump(value: BaseModel) -> object:
    try:
        return value.model_dump(mode="json", warnings="error")
    except (PydanticSerializationError, ValueError, TypeError) as error:
        raise BindError(f"the arguments cannot be written as JSON: {error}; declare JSON types") from error


def _invalid(error: ValidationError) -> BindError:
    first = error.errors(include_url=False, include_input=False)[0]
    pointer = "".join(f"/{escape(str(part))}" for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return BindError(f"argument {pointer or '/'}: {first['msg']}{more}", pointer=pointer)


def _difference(first: object, second: object, pointer: str = "") -> str | None:
    """The pointer of the first place where two objects of one schema differ."""
    if isinstance(first, BaseModel) and isinstance(second, BaseModel):
        pairs: Iterable[tuple[str, object, object]] = [
            *((n, getattr(first, n), getattr(second, n, None)) for n in type(first).model_fields),
            *((n, v, (second.model_extra or {}).get(n)) for n, v in (first.model_extra or {}).items()),
        ]
    elif isinstance(first, dict) and isinstance(second, dict):
        pairs = ((str(k), v, second.get(k)) for k, v in first.items())
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        pairs = ((str(i), a, b) for i, (a, b) in enumerate(zip(first, second, strict=True)))
    else:
        return pointer if first != second else None
    found = (_difference(a, b, f"{pointer}/{escape(n)}") for n, a, b in pairs)
    return next((p for p in found if p is not None), pointer if first != second else None)


def _names(tool: str, key: str, value: object) -> tuple[str, ...]:
    if (
        isinstance(value, str)
        or not isinstance(value, Iterable)
        or not all(isinstance(v, str) for v in value)
    ):
        raise ConfigError(f"annotations of {tool!r}: {key!r} is a list of names, not {value!r}")
    return tuple(value)


def _check_names(tool: str, notes: Annotations, schema: dict[str, JSON], *, has_schema: bool) -> None:
    if not has_schema:
        return
    properties = cast("dict[str, JSON]", schema.get("properties") or {})
    for role in ("target", "object", "content", "secret"):
        for name in getattr(notes, role):
            top = name.lstrip("/").split("/")[0].replace("~1", "/").replace("~0", "~")
            if top not in properties:
                known = ", ".join(properties) or "none"
                raise ConfigError(
                    f"annotations of {tool!r}: {role} names {name!r}; its arguments are: {known}"
                )
