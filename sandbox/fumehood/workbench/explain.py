"""Says of one policy input which rules fired, which nearly did, and the first condition that stopped them.

Each body is evaluated again, condition by condition, by the engine itself (see `probes`). The answer is
held against what the policies really decide: where the two do not agree, or where the recorded input
is not whole, a rule is said to be not explained, never explained wrongly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from fumehood.canonical import JSON
from fumehood.errors import PdpError
from fumehood.model import Decision, Phase, PolicyInput, understood
from fumehood.pdp.answer import decide
from fumehood.pdp.apart import EngineApart
from fumehood.pdp.combine import PHASES
from fumehood.pdp.engine import EngineError
from fumehood.pdp.gate.context import Context
from fumehood.pdp.keys import Keys
from fumehood.pdp.sources import Source
from fumehood.pdp.syntax import Module, Node, kind_of, ref_of
from fumehood.workbench.engines import loaded_engine
from fumehood.workbench.explanation import (
    ERROR,
    FAILS,
    HOLDS,
    UNKNOWN,
    Condition,
    Definition,
    Explanation,
    Value,
)
from fumehood.workbench.hints import hint
from fumehood.workbench.loading import load_parsed
from fumehood.workbench.probes import (
    BodyProbe,
    ConditionProbe,
    Part,
    RuleProbe,
    module_texts,
    probes_of,
    readable,
)
from fumehood.workbench.reads import Path, Reads, missing_in, pointer_of, touched

__all__ = ["Explainer"]

_MAX_VALUES = 3
_MAX_DEPTH = 4  # helpers of helpers that are looked into


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question: the document, and what is missing in it."""

    text: str
    missing: frozenset[Path]


class Explainer:
    """Explains decisions of the policies in folders and packs. For one thread."""

    def __init__(self, given: Sequence[Source], *, signed_by: Keys = ()) -> None:
        """Raises ConfigError: the policies cannot be used."""
        self._bundle, modules = load_parsed(given, signed_by=signed_by, is_split=False)
        context = Context(modules, {})
        self._probes = probes_of(context)
        self._reads = Reads(modules)
        try:
            self._engine = self._loaded()
        except EngineError:
            self._probes = {
                package: {
                    name: [readable(package, probe) for probe in found] for name, found in rules.items()
                }
                for package, rules in self._probes.items()
            }
            self._engine = self._loaded()
        self._asked = _Asked("{}", frozenset())

    def _loaded(self) -> EngineApart:
        files = [*self._bundle.embedded, *module_texts(self._probes)]
        return loaded_engine(files, self._bundle.data, owner=self)

    @property
    def revision(self) -> str:
        """The revision of the policies ("sha256:…")."""
        return self._bundle.revision

    def decide(self, document: JSON) -> Decision:
        """The decision alone, as the guard understands it: an obligation that nobody knows is a denial.

        Raises:
            PdpError: the policies cannot decide it.
        """
        phase, text = _phase(document), _text(document)
        names = self._bundle.index.names
        asked = PolicyInput(phase, _tool(document), text.encode())
        decision = decide(
            asked,
            self._bundle.index,
            self._bundle.revision,
            lambda number: self._engine.evaluate(names[number], text),
        )
        return understood(decision)

    def explain(self, document: JSON) -> Explanation:
        """The decision about a whole policy input, and how each rule of its phase came to what it says."""
        phase = _phase(document)
        missing = missing_in(document)
        self._asked = _Asked(_text(document), missing)
        decision, error = None, ""
        try:
            decision = self.decide(document)
        except PdpError as problem:
            error = f"{problem.code}: {problem}"
        found = [
            definition
            for package, rules in self._probes.items()
            for rule in PHASES[phase.value]
            if rule in rules
            for definition in self._rule(package, rule, rules[rule])
        ]
        pointers = tuple(sorted(map(pointer_of, touched(self._read(phase), missing))))
        return Explanation(decision, error, tuple(found), pointers)

    def _read(self, phase: Phase) -> frozenset[Path]:
        """All that a rule of the phase may read."""
        return frozenset(
            path
            for package, rules in self._probes.items()
            for rule in PHASES[phase.value]
            for probe in rules.get(rule, ())
            for path in self._reads.definition(package, probe.module, probe.rule)
        )

    # --- rules ---

    def _rule(self, package: str, name: str, probes: Sequence[RuleProbe]) -> list[Definition]:
        found = [self._definition(package, probe) for probe in probes if probe.rule.shape != "default"]
        try:
            whole = self._value(f"data.{package}.{name}")
        except PdpError:
            return found
        is_same = (
            (_joined(found) or []) == _sorted(whole) if isinstance(whole, list) else _joined(found) == whole
        )
        if is_same or any(d.outcome in ("error", UNKNOWN, "not explained") for d in found):
            return found
        note = "its parts do not add up to what the rule says as a whole"
        return [replace(d, outcome="not explained", note=note) for d in found]

    def _definition(self, package: str, probe: RuleProbe) -> Definition:
        reads = self._reads.definition(package, probe.module, probe.rule)
        base = self._base(package, probe)
        try:
            says = self._value(f"data.{package}.{probe.alone}")
        except PdpError as error:
            base = replace(base, outcome="error", note=_first_line(error))
            says = None
        is_set = probe.rule.shape == "set"
        if base.outcome != "error":
            fired = bool(says) if is_set else says is not None
            base = replace(base, outcome="fired" if fired else "stopped", says=says if fired else None)
        if probe.why_not:
            return replace(base, outcome="not explained", note=probe.why_not)
        conditions, total, ends = self._bodies(package, probe, "", 0)
        base = replace(base, conditions=conditions, total=total)
        return self._checked(base, ends, bool(touched(reads, self._asked.missing)))

    def _checked(self, definition: Definition, ends: str, is_blurred: bool) -> Definition:
        """*definition*, if how its conditions end agrees with what it says."""
        if ends == UNKNOWN or (is_blurred and any(c.outcome == UNKNOWN for c in definition.conditions)):
            return replace(definition, outcome=UNKNOWN, says=None)
        if definition.outcome == "error" or ends == ERROR:
            return replace(definition, outcome="error")
        if (definition.outcome == "fired") == (ends == HOLDS):
            return definition
        note = "its conditions, one by one, do not come to what it says"
        return replace(definition, outcome="not explained", conditions=(), note=note)

    def _base(self, package: str, probe: RuleProbe) -> Definition:
        place = probe.module.problem(probe.rule.start, "", "")
        return Definition(f"{package}.{probe.rule.name}", place.file, place.line, "stopped")

    def _bodies(
        self, package: str, probe: RuleProbe, args: str, depth: int
    ) -> tuple[tuple[Condition, ...], int, str]:
        """The conditions of the body that decides, or came furthest; how many it has; how it ends."""
        best: tuple[tuple[Condition, ...], int, str] = ((), 0, HOLDS)
        for body in probe.bodies:
            conditions = tuple(self._conditions(package, probe, body, args, depth))
            ends = conditions[-1].outcome if conditions else HOLDS
            if ends != FAILS:
                return conditions, len(body.conditions), ends
            if best[2] == HOLDS or len(conditions) > len(best[0]):
                best = (conditions, len(body.conditions), ends)
        return best

    # --- conditions ---

    def _conditions(
        self, package: str, probe: RuleProbe, body: BodyProbe, args: str, depth: int
    ) -> Iterator[Condition]:
        """Those that are reached: up to the first that does not hold."""
        for condition in body.conditions:
            found = self._condition(package, probe, condition, args, depth)
            yield found
            if found.outcome != HOLDS:
                return

    def _condition(
        self, package: str, probe: RuleProbe, condition: ConditionProbe, args: str, depth: int
    ) -> Condition:
        place = probe.module.problem(condition.start, "", "")
        outcome, note = self._outcome(package, probe, condition, args)
        values = tuple(self._part(package, probe, part, args, outcome) for part in condition.parts)
        because = self._because(package, probe, condition, values, depth) if outcome in (HOLDS, FAILS) else ()
        said = note or (hint(probe.module, condition.statement, values) if outcome == FAILS else "")
        return Condition(place.line, place.column, condition.text, outcome, values, said, because)

    def _outcome(
        self, package: str, probe: RuleProbe, condition: ConditionProbe, args: str
    ) -> tuple[str, str]:
        read = self._reads.part(package, probe.module, condition.statement)
        hidden = touched(read, self._asked.missing)
        if hidden:
            names = ", ".join(sorted(map(pointer_of, hidden)))
            return UNKNOWN, f"it reads what was not recorded as it was: {names}"
        try:
            return (HOLDS if self._value(f"data.{package}.{condition.holds}{args}") else FAILS), ""
        except PdpError as error:
            return ERROR, _first_line(error)

    def _part(self, package: str, probe: RuleProbe, part: Part, args: str, outcome: str) -> Value:
        if part.node is not None and touched(
            self._reads.part(package, probe.module, part.node), self._asked.missing
        ):
            return Value(part.text, (), is_known=False)
        try:
            name = part.held if outcome == HOLDS else part.name
            found = self._value(f"data.{package}.{name}{args}")
        except PdpError:
            return Value(part.text, (), is_known=False)
        pairs = cast("list[list[JSON]]", found or [])
        values = tuple(_shown(str(kind), value) for kind, value in pairs[:_MAX_VALUES])
        return Value(part.text, values, has_more=len(pairs) > _MAX_VALUES)

    def _because(
        self, package: str, probe: RuleProbe, condition: ConditionProbe, values: Sequence[Value], depth: int
    ) -> tuple[Definition, ...]:
        """How the helper that the condition asks for came to what it is."""
        kind, literal = kind_of(cast("Node", condition.statement["literal"]))
        if depth >= _MAX_DEPTH or kind not in ("Expr", "NotExpr"):
            return ()
        node = cast("Node", literal["expr"])
        kind, body = kind_of(node)
        called = cast("Node", body["fcn"]) if kind == "Call" else node
        ref = ref_of(called) if kind in ("Var", "Call") else None
        helpers = self._probes.get(package, {}).get(ref.root, []) if ref and not ref.parts else []
        args = self._arguments(probe.module, body, values) if kind == "Call" else ""
        if args is None:
            return ()
        found = [self._helper(package, helper, args, depth + 1) for helper in helpers]
        return tuple(d for d in found if d is not None)

    def _helper(self, package: str, probe: RuleProbe, args: str, depth: int) -> Definition | None:
        if probe.rule.shape not in ("value", "function") or probe.why_not:
            return None
        conditions, total, ends = self._bodies(package, probe, args, depth)
        outcome = {HOLDS: "fired", FAILS: "stopped"}.get(ends, ends)
        base = replace(self._base(package, probe), conditions=conditions, total=total)
        return replace(base, outcome=outcome)

    def _arguments(self, module: Module, call: Node, values: Sequence[Value]) -> str | None:
        """The arguments of a call, written out; None where they are not just one each, and plain JSON."""
        by_text = {value.text: value for value in values}
        written: list[str] = []
        for parameter in cast("list[Node]", call["params"]):
            kind, body = kind_of(parameter)
            start, end = module.span_of(parameter)
            value = by_text.get(module.encoded[start:end].decode(errors="replace"))
            if value is not None and value.is_known and len(value.values) == 1:
                written.append(json.dumps(value.values[0], ensure_ascii=False))
            elif kind in ("String", "RawString", "Bool", "Null"):
                written.append(json.dumps(body["value"], ensure_ascii=False))
            elif kind == "Number":
                written.append(module.text_of(parameter))
            else:
                return None
        return f"({', '.join(written)})" if not any(_is_set(v) for x in values for v in x.values) else None

    # --- the engine ---

    def _value(self, query: str) -> JSON:
        """The value of a rule or call; None if it is undefined. Raises PdpError."""
        if not query.endswith(")"):  # a rule: that is asked for at less than half the price
            try:
                return cast("JSON", json.loads(self._engine.evaluate(query, self._asked.text)))
            except PdpError as error:
                if error.code == "pdp_undefined":
                    return None
                raise
        answer = json.loads(self._engine.query(query, self._asked.text))
        results = answer.get("result") or []
        return cast("JSON", results[0]["expressions"][0]["value"]) if results else None


def _phase(document: JSON) -> Phase:
    try:
        return Phase(cast("Mapping[str, Mapping[str, str]]", document)["action"]["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise PdpError(f"the policies know no such phase: {error}", code="pdp_error") from error


def _tool(document: JSON) -> str:
    """The tool; "" for none that a policy could see."""
    try:
        found = cast("Mapping[str, Mapping[str, JSON]]", document)["resource"]["id"]
    except (KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


def _text(document: JSON) -> str:
    return json.dumps(document, ensure_ascii=False, allow_nan=False)


def _shown(kind: str, value: JSON) -> JSON:
    """A set is told from a list."""
    return {"set": value} if kind == "set" else value


def _is_set(value: JSON) -> bool:
    return isinstance(value, dict) and list(value) == ["set"]


def _joined(found: Sequence[Definition]) -> JSON:
    """What several definitions say together, as the rule says it."""
    if found and isinstance(found[0].says, list):
        items = [item for d in found for item in (d.says if isinstance(d.says, list) else [])]
        return _sorted(items)
    said = [d.says for d in found if d.says is not None]
    return said[0] if said and not isinstance(said[0], list) else (_sorted(said[0]) if said else None)


def _sorted(items: JSON) -> JSON:
    unique = {json.dumps(item, sort_keys=True): item for item in cast("list[JSON]", items)}
    return [unique[key] for key in sorted(unique)]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("error:")), lines[0] if lines else "")
