"""The policy input document (AuthZEN shape), strictly: for documents that people write or read back.

Not on the hot path: the guard writes these documents itself. An unknown field is an error, a field
that is absent is absent, never null. Arguments and results are the only places where anything may stand.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from fumehood.canonical import JSON, escape
from fumehood.model import Kind, Origin, Runs

__all__ = ["PolicyDocument", "complaints", "complaints_at"]

_PARTIAL = frozenset({"missing"})

Pointer = Annotated[str, Field(pattern=r"^(/.*)?$")]
Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_null(cls, value: object) -> object:
        if isinstance(value, dict):
            for name in value.keys() - {"result"}:
                if value[name] is None:
                    raise ValueError(f"{name} is null; leave it out")
        return value


class SubjectProperties(_Part):
    user: str | None = None
    roles: list[str] = []


class SubjectPart(_Part):
    type: Literal["agent"]
    id: str
    properties: SubjectProperties = SubjectProperties()


class ConnectTo(_Part):
    host: str
    port: Annotated[int, Field(ge=0, le=65535)]


class ActionProperties(_Part):
    args: dict[str, JsonValue]
    digest: str | None = None
    call_id: str | None = None
    result: JsonValue = None
    is_error: bool | None = None
    connect: ConnectTo | None = None


class ActionPart(_Part):
    name: Literal["execute_tool", "return_result", "connect"]
    properties: ActionProperties


class AnnotationsPart(_Part):
    kind: Annotated[Kind, Field(strict=False)] | None = None
    target: list[str] = []
    object: list[str] = []
    content: list[str] = []
    secret: list[str] = []
    result: Annotated[Origin, Field(strict=False)] | None = None
    trusted: list[str] = []
    internal: list[str] = []
    secret_result: list[str] = []
    sql_dialect: str | None = None


class ResourceProperties(_Part):
    definition_digest: str | None = None
    runs: Annotated[Runs, Field(strict=False)] | None = None
    annotations: AnnotationsPart = AnnotationsPart()


class ResourcePart(_Part):
    type: Literal["tool"]
    id: str
    properties: ResourceProperties = ResourceProperties()


class SessionPart(_Part):
    id: str
    conversation_id: str | None = None
    prompt: str | None = None


class PastCall(_Part):
    tool: str
    effect: str
    labels: list[str]
    seq: Count


class ToolCounters(_Part):
    calls: Count
    denied: Count


class WindowCounters(_Part):
    calls: Count


class Counters(_Part):
    session: dict[str, ToolCounters] = {}
    windows: dict[str, WindowCounters] = {}


class SourcePart(_Part):
    origin: Annotated[Origin, Field(strict=False)]
    source: str | None = None
    match: str | None = None


class ProvenancePart(_Part):
    args: dict[Pointer, list[SourcePart]] = {}
    session_labels: list[str] = []


class UrlPart(_Part):
    scheme: str
    host: str
    port: Annotated[int, Field(ge=0, le=65535)]
    path: str
    query: str = ""
    reach: str = "name"


class FilePart(_Part):
    leads_to: str
    links: list[str] = []
    is_link: bool = False
    exists: bool = True
    type: Literal["file", "folder", "special", "missing"] = "file"
    in_home: bool = False
    in_workdir: bool = False


class CommandPart(_Part):
    program: str
    words: list[str]
    is_static: bool = True
    sets: list[str] = []


class RedirectPart(_Part):
    operator: str
    target: str


class ShellPart(_Part):
    commands: list[CommandPart]
    redirects: list[RedirectPart] = []
    uses: list[str] = []
    is_static: bool = True


class StatementPart(_Part):
    kind: str
    kinds: list[str]
    reads: list[str] = []
    writes: list[str] = []
    functions: list[str] = []
    other_functions: list[str] = []


class SqlPart(_Part):
    statements: list[StatementPart]
    kinds: list[str]
    reads: list[str] = []
    writes: list[str] = []
    functions: list[str] = []
    other_functions: list[str] = []


class NormalisedPart(_Part):
    paths: dict[Pointer, str] = {}
    urls: dict[Pointer, UrlPart] = {}
    argv: dict[Pointer, list[str]] = {}
    files: dict[Pointer, FilePart] = {}
    shell: dict[Pointer, ShellPart] = {}
    sql: dict[Pointer, SqlPart] = {}
    unparseable: dict[str, dict[Pointer, str]] = {}


class ContextPart(_Part):
    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")]
    session: SessionPart
    history: Annotated[list[PastCall], Field(max_length=50)] | None = None
    counters: Counters | None = None
    provenance: ProvenancePart | None = None
    normalised: NormalisedPart | None = None


class PolicyDocument(_Part):
    """One policy input. `PolicyDocument.model_validate(document)` raises pydantic's ValidationError."""

    subject: SubjectPart
    action: ActionPart
    resource: ResourcePart
    context: ContextPart


def complaints(document: JSON, *, is_partial: bool = False) -> list[str]:
    """What is wrong with *document*, with its JSON Pointer. With *is_partial* anything may be missing."""
    try:
        PolicyDocument.model_validate(document)
    except ValidationError as error:
        found = (e for e in error.errors() if not (is_partial and e["type"] in _PARTIAL))
        return [f"{_pointer(e['loc'])}: {e['msg']}" for e in found]
    return []


def complaints_at(document: JSON) -> list[tuple[tuple[int | str, ...], str]]:
    """What is wrong with a whole *document*: the path of the place, and what is said of it."""
    try:
        PolicyDocument.model_validate(document)
    except ValidationError as error:
        return [(e["loc"], f"{_pointer(e['loc'])}: {e['msg']}") for e in error.errors()]
    return []


def _pointer(steps: tuple[int | str, ...]) -> str:
    return "".join("/" + escape(str(step)) for step in steps)
