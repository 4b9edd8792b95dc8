"""The values that the whole product speaks in. Imports nothing but the standard library.

Names follow XACML and AuthZEN: a *subject* asks for an *action* on a *resource*; a policy decision
point answers a *decision* with an *effect*, *reasons* and *obligations*. Times are Unix seconds
(float, UTC); durations end in `_s`, sizes in `_bytes`. JSON travels between floors as bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

__all__ = [
    "PARSED_KINDS",
    "PARSED_PLACES",
    "SQL_DIALECTS",
    "Annotations",
    "Approve",
    "Confine",
    "Decision",
    "Effect",
    "Kind",
    "Label",
    "Limit",
    "Obligation",
    "Origin",
    "Pdp",
    "Phase",
    "PolicyFacts",
    "PolicyInput",
    "Reason",
    "Redact",
    "Risk",
    "Runs",
    "Session",
    "Subject",
    "ToolCall",
    "ToolDefinition",
    "Unknown",
    "understood",
]

#: What arguments are parsed as (`call.path(pointer)` and so on) → where it stands in `context.normalised`.
PARSED_PLACES: Mapping[str, str] = {
    "path": "paths",
    "url": "urls",
    "argv": "argv",
    "file": "files",
    "shell": "shell",
    "sql": "sql",
}
PARSED_KINDS = tuple(PARSED_PLACES)

#: Dialects that an annotation may name, as sqlglot calls them; not athena, which it reads by two parsers.
SQL_DIALECTS = frozenset(
    {
        "bigquery",
        "clickhouse",
        "databricks",
        "duckdb",
        "hive",
        "mysql",
        "oracle",
        "postgres",
        "presto",
    }
    | {"redshift", "snowflake", "spark", "sqlite", "teradata", "trino", "tsql"}
)


class Phase(StrEnum):
    """What is being decided; `action.name` in the policy input. Each phase has rules of its own."""

    EXECUTE_TOOL = "execute_tool"
    RETURN_RESULT = "return_result"
    CONNECT = "connect"


class Effect(StrEnum):
    PERMIT = "permit"
    DENY = "deny"
    INDETERMINATE = "indeterminate"  # the PDP could not say; enforced as deny


class Kind(StrEnum):
    """What a tool does to the world. Only READ may run twice: everything else is claimed before it runs."""

    READ = "read"
    FETCH = "fetch"
    WRITE = "write"
    EGRESS = "egress"
    MONEY = "money"
    ACCESS = "access"
    DESTROY = "destroy"
    EXECUTE = "execute"


class Runs(StrEnum):
    IN_PROCESS = "in_process"
    CONFINED = "confined"


class Risk(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """0 for low, 1 for medium, 2 for high."""
        return ("low", "medium", "high").index(self.value)


class Origin(StrEnum):
    """Where a value was found, the most trusted first. UNKNOWN is not trusted."""

    USER = "user"
    SYSTEM = "system"
    INTERNAL = "internal"
    DELEGATED = "delegated"
    UNTRUSTED = "untrusted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why. `text` and `remedy` reach the agent, fixed text; `detail` only operator and record."""

    code: str
    text: str
    remedy: str | None = None
    detail: str | None = None
    retryable: bool = False
    controls: tuple[str, ...] = ()
    rule: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Approve:
    """A person must agree before the call runs."""

    reason: str
    risk: Risk = Risk.MEDIUM
    timeout_s: float = 300.0
    on_timeout: str = "deny"  # or "wait"
    approvers: int = 1
    separate: bool = False
    signed: bool = False
    always: bool = False
    controls: tuple[str, ...] = ()
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Confine:
    """Run it confined under `profile`; when several are named the strictest wins."""

    profile: str
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    limits: tuple[tuple[str, float], ...] = ()
    network: tuple[str, ...] = ()
    stage: tuple[str, ...] = ()
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `max` units of `cost` under `key` in any `per_s` seconds; counted by the ledger."""

    key: str
    max: float
    per_s: float
    cost: float = 1.0
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Redact:
    """Take a JSON Pointer (`path`) or matches of an RE2 `pattern` out of what the agent sees."""

    path: str | None = None
    pattern: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """Where this result may be trusted: `trusted`, `internal`, `untrusted`, or a name of the author's."""

    label: str
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """An obligation that nobody here understands: the call is denied."""

    name: str
    body: str = ""


Obligation = Approve | Confine | Limit | Redact | Label | Unknown


@dataclass(frozen=True, slots=True)
class Decision:
    """What the PDP answered about one phase of one tool call.

    `rules` are full names of the rules that spoke (`policies.refunds.approve`). For phase
    `return_result`, DENY means that the result is withheld. Nobody acts on `observed`: it is recorded.
    """

    effect: Effect
    reasons: tuple[Reason, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    revision: str = ""  # "sha256:…" of the bundle
    rules: tuple[str, ...] = ()
    decision_id: str = field(default="", compare=False)  # in the decision log of an OPA server
    observed: Decision | None = None  # what all packages said, where a guard only watches some of them

    @property
    def is_permit(self) -> bool:
        return self.effect is Effect.PERMIT

    @property
    def approvals(self) -> tuple[Approve, ...]:
        return tuple(o for o in self.obligations if isinstance(o, Approve))

    @property
    def confinements(self) -> tuple[Confine, ...]:
        return tuple(o for o in self.obligations if isinstance(o, Confine))

    @property
    def limits(self) -> tuple[Limit, ...]:
        return tuple(o for o in self.obligations if isinstance(o, Limit))

    @property
    def redactions(self) -> tuple[Redact, ...]:
        return tuple(o for o in self.obligations if isinstance(o, Redact))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(o.label for o in self.obligations if isinstance(o, Label))

    def explain(self) -> str:
        """The reasons as one line for the agent: fixed text only, never `detail`."""
        parts = [_sentence(r.text, r.remedy) for r in self.reasons]
        return "; ".join(parts) or f"the decision is {self.effect.value}"

    def refused(self, *reasons: Reason) -> Decision:
        """This decision turned into a denial for *reasons*; what was decided, and where, stays on it."""
        return replace(self, effect=Effect.DENY, reasons=reasons, obligations=())

    def same_as(self, other: Decision) -> bool:
        """True if effect, reasons and obligations are equal (rules and revision may differ)."""
        return (self.effect, frozenset(self.reasons), frozenset(self.obligations)) == (
            other.effect,
            frozenset(other.reasons),
            frozenset(other.obligations),
        )

    @staticmethod
    def deny(code: str, text: str, *, revision: str = "", **more: object) -> Decision:
        """A denial of the guard's own, with one reason; `more` are further fields of `Reason`."""
        return Decision(Effect.DENY, (Reason(code, text, **more),), revision=revision)  # type: ignore[arg-type]

    @staticmethod
    def deny_with(reason: Reason, *, revision: str = "", rules: tuple[str, ...] = ()) -> Decision:
        """A denial with one reason."""
        return Decision(Effect.DENY, (reason,), revision=revision, rules=rules)


def _sentence(text: str, remedy: str | None) -> str:
    if not remedy:
        return text
    return f"{text} {remedy}" if text.endswith((".", "!", "?", ":")) else f"{text}. {remedy}"


def understood(decision: Decision) -> Decision:
    """*decision*, or a denial if it carries an obligation that nobody here understands."""
    strange = tuple(o for o in decision.obligations if isinstance(o, Unknown))
    if not strange:
        return decision
    reasons = tuple(
        Reason(
            "unknown_obligation",
            f"the policy asks for {o.name!r}, which this version does not know",
            detail=o.body,
        )
        for o in strange
    )
    return decision.refused(*reasons)


@dataclass(frozen=True, slots=True)
class Annotations:
    """What an integrator says of a tool, once. Argument names are top-level names or JSON Pointers.

    `trusted`, `internal`, `secret_result` are JSON Pointers into the result; `result` is the
    origin of everything else in it. `sql_dialect` is what SQL in the arguments is written in.
    """

    kind: Kind | None = None
    target: tuple[str, ...] = ()
    object: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    secret: tuple[str, ...] = ()
    result: Origin = Origin.UNTRUSTED
    trusted: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()
    secret_result: tuple[str, ...] = ()
    sql_dialect: str | None = None


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool, frozen when wrapped. `digest` ("sha256:…") covers name, description, schema, annotations."""

    name: str
    description: str = ""
    schema: bytes = b"{}"  # canonical JSON Schema of the arguments
    annotations: Annotations = field(default_factory=Annotations)
    runs: Runs = Runs.IN_PROCESS
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """Who asks: the agent, on behalf of `user`."""

    id: str
    user: str | None = None
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """One run of an agent for a user. `is_implicit`: nobody opened it; everything in it is unknown."""

    id: str
    subject: Subject
    prompt: str | None = None
    conversation_id: str | None = None
    is_implicit: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A bound call: `args` is the canonical JSON document that is decided, shown, recorded and run.

    `digest` is HMAC-SHA256 under `key` over tool, definition, arguments and subject; the key is
    random per call and erased with the arguments. `injected` names arguments that the framework
    adds after the decision (they are not bound). `attempt_id` is unique per attempt.
    """

    tool: ToolDefinition
    session: Session
    args: bytes
    digest: str
    key: bytes
    attempt_id: str
    call_id: str | None = None
    injected: tuple[str, ...] = ()
    parent_attempt_id: str | None = None

    @property
    def is_read(self) -> bool:
        return self.tool.annotations.kind is Kind.READ


@dataclass(frozen=True, slots=True)
class PolicyInput:
    """One policy input document (UTF-8 JSON, AuthZEN shape), ready for a PDP.

    `revision` is that of the policies for which it was put together; "" if any will do.
    """

    phase: Phase
    tool: str
    body: bytes
    revision: str = ""


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """What the guard may know of a loaded bundle without asking it.

    `has_result_rules`: some rule can withhold, redact or label; `reads_history`: some rule reads
    `input.context.history`, so it has to be sent. When in doubt both are True. `reads_parsed`: what rules
    read of the parsed arguments, by kind of `PARSED_KINDS`, and the JSON Pointers; None is any.
    """

    revision: str
    packages: tuple[str, ...]
    has_result_rules: bool = True
    reads_history: bool = True
    reads_parsed: Mapping[str, frozenset[str] | None] = field(
        default_factory=lambda: dict.fromkeys(PARSED_KINDS)
    )


class Pdp(Protocol):
    """A policy decision point. Thread-safe; blocking."""

    @property
    def facts(self) -> PolicyFacts: ...

    def evaluate(self, document: PolicyInput, /) -> Decision:
        """Decide. Raises PdpError (with a `pdp_*` code) instead of ever guessing."""
        ...

    def close(self) -> None: ...
