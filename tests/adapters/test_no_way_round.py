"""Nothing that hangs on a guarded tool leads to the tool that it was made of."""

from __future__ import annotations

import copy
import pickle
import types
from collections.abc import Callable
from typing import Any

import pytest
from adapters.conftest import DENY, PERMIT, Open
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool, BaseToolkit, StructuredTool, Tool, tool

from fumehood import Denied, Guard
from fumehood.errors import ConfigError
from fumehood_adapters._tools import GuardedTool
from fumehood_adapters.langchain import guard_tools

# Closures and frames are not a boundary (SECURITY.md); modules and types lead everywhere.
_FOLLOWED = (
    "__dict__", "__pydantic_private__", "__pydantic_extra__", "__wrapped__", "__self__", "__func__",
    "__defaults__", "__kwdefaults__", "__annotations__", "__slots__",
)  # fmt: skip
_ATOMS = (str, bytes, int, float, bool, type(None), types.ModuleType, types.CodeType)


READ_TICKET = 'package policies.t\nimport data.fumehood.call\npermit if call.tool == "read_ticket"\n'
CALL = {"name": "count", "args": {"text": "x"}, "id": "c", "type": "tool_call"}


class Act(BaseTool):
    name: str = "act"
    description: str = "Act."
    secret_handle: Any = None

    def _run(self, text: str) -> str:
        return text

    def on_error(self, error: Exception) -> str:
        return f"handled {error}"


def act(text: str) -> str:
    """Act."""
    return text


async def aact(text: str) -> str:
    """Act."""
    return text


def originals() -> list[BaseTool]:
    subclass = Act()
    subclass.handle_tool_error = subclass.on_error
    return [
        tool(act),
        StructuredTool.from_function(act, aact, name="act"),
        Tool(name="act", func=act, description="Act."),
        subclass,
        RunnableLambda(act).as_tool(name="act", description="Act."),
    ]


def reachable(root: object, *, depth: int = 4) -> dict[int, object]:
    """Everything that *depth* steps over attributes, items and private attributes of *root* lead to."""
    seen: dict[int, object] = {}
    here = [root]
    for _ in range(depth):
        new = [x for x in here if not isinstance(x, _ATOMS) and id(x) not in seen]
        seen.update((id(x), x) for x in new)
        here = [child for x in {id(x): x for x in new}.values() for child in _children(x)]
    return seen


def _children(here: object) -> list[object]:
    if isinstance(here, dict):
        return [*here.keys(), *here.values()]
    if isinstance(here, list | tuple | set | frozenset):
        return list(here)
    if isinstance(here, type):  # a class leads to its own attributes
        return [v for k, v in vars(here).items() if not k.startswith("__") or k in _FOLLOWED]
    found: list[object] = []
    for name in dir(here):
        if not name.startswith("__") or name in _FOLLOWED:
            try:
                found.append(getattr(here, name))
            except Exception:
                continue
    return found


@pytest.mark.filterwarnings("ignore")  # the walk touches every deprecated attribute there is
@pytest.mark.parametrize("index", range(5))
def test_no_attribute_leads_to_the_original(open_guard: Open, index: int) -> None:
    original = originals()[index]
    [guarded] = guard_tools([original], open_guard(PERMIT))
    deep: list[Callable[[], object]] = [
        lambda: guarded,
        lambda: copy.copy(guarded),
        lambda: copy.deepcopy(guarded),
        lambda: guarded.model_copy(update={"name": "other"}),
        lambda: guarded.bind(),
        lambda: guarded.with_retry(),
        lambda: guarded.as_tool(),
    ]
    forbidden = {id(original), id(act), id(aact)}
    forbidden |= {id(getattr(original, n)) for n in ("func", "coroutine") if getattr(original, n, None)}
    for make in deep:
        seen = reachable(make())
        assert len(seen) > 100
        hits = [seen[i] for i in forbidden & seen.keys()]
        assert hits == []
        assert not [o for o in seen.values() if isinstance(o, types.MethodType) and o.__self__ is original]


def test_private_attributes_hold_a_seal_without_content(open_guard: Open) -> None:
    [guarded] = guard_tools([Act()], open_guard(PERMIT))
    private = guarded.__pydantic_private__ or {}
    seal = private["_seal"]
    assert [n for n in dir(seal) if not n.startswith("__")] == []
    assert "secret_handle" not in vars(guarded)
    with pytest.raises(AttributeError):
        guarded.secret_handle  # type: ignore[attr-defined]


def test_a_guarded_tool_does_not_pickle(open_guard: Open) -> None:
    [guarded] = guard_tools([tool(act)], open_guard(PERMIT))
    for thing in (guarded, guarded._seal):  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(thing)


def test_renaming_changes_what_the_model_sees_and_not_what_policy_decides(open_guard: Open) -> None:
    guard = open_guard(
        'package policies.t\nimport data.fumehood.call\npermit if call.tool == "read_ticket"\n'
    )
    [guarded] = guard_tools([tool(act)], guard)
    renamed = guarded.model_copy(update={"name": "read_ticket", "description": "Reads."})
    guarded.name = "read_ticket"
    for disguised in (renamed, guarded, guarded.as_tool(name="read_ticket")):
        assert disguised.name == "read_ticket"
        with guard.session(agent="a"), pytest.raises(Denied):
            disguised.invoke({"text": "x"})


def test_changing_the_schema_of_a_copy_changes_nothing_that_runs(open_guard: Open) -> None:
    [guarded] = guard_tools([tool(act)], open_guard(DENY))
    other = guarded.model_copy(update={"args_schema": None, "response_format": "content_and_artifact"})
    with pytest.raises(Denied):
        other.invoke({"text": "x"})


def test_a_guarded_tool_is_not_wrapped_twice(open_guard: Open) -> None:
    guard = open_guard(PERMIT)
    once = guard_tools([tool(act)], guard)
    assert guard_tools(once, guard)[0] is once[0]
    bound = guard_tools(once, guard, session=guard.session(agent="b"))[0]
    with guard.session(agent="a") as session:
        bound.invoke({"text": "x"})
        guard.ledger.flush()
        assert not [e for e in guard.ledger.events(session=session.id) if e.kind == "decision"]


def test_another_guards_tool_is_refused(open_guard: Open) -> None:
    first, second = open_guard(PERMIT), open_guard(DENY)
    with pytest.raises(ConfigError, match="another guard"):
        guard_tools(guard_tools([tool(act)], first), second)


class Toolkit(BaseToolkit):
    def get_tools(self) -> list[BaseTool]:
        return [tool(act)]


class Overrides(BaseTool):
    name: str = "sly"
    description: str = "Works before it is asked."

    def _run(self) -> str:
        return ""

    def invoke(self, *args: Any, **kwargs: Any) -> str:
        return "did it already"


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ({"type": "web_search_20250305", "name": "web_search"}, "provider"),
        (Toolkit(), "get_tools"),
        (RunnableLambda(act), "as_tool"),
        (tool(act).bind(), "BaseTool"),
        ("act", "str is not a tool"),
        (object(), "not a tool"),
        (Overrides(), "overrides invoke"),
    ],
)
def test_what_cannot_be_guarded_is_refused(open_guard: Open, thing: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        guard_tools([thing], open_guard(PERMIT))


def test_annotations_of_a_tool_or_argument_that_is_not_there_are_refused(open_guard: Open) -> None:
    guard = open_guard(PERMIT)
    with pytest.raises(ConfigError, match="'acct'; the tools are: act"):
        guard_tools([tool(act)], guard, annotations={"acct": {"kind": "money"}})
    with pytest.raises(ConfigError, match="its arguments are: text"):
        guard_tools([tool(act)], guard, annotations={"act": {"target": ["order_id"]}})
    once = guard_tools([tool(act)], guard)
    with pytest.raises(ConfigError, match="guarded already"):
        guard_tools(once, guard, annotations={"act": {"kind": "money"}})


def test_a_guarded_tool_made_by_hand_does_nothing(open_guard: Open) -> None:
    by_hand = GuardedTool(name="act", description="Act.")
    with pytest.raises(ConfigError, match="guard_tools"):
        by_hand.run("x")


def test_the_guard_failing_is_a_denial_and_nothing_runs(
    open_guard: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    @tool
    def count(text: str) -> str:
        """Count."""
        ran.append(text)
        return text

    guard: Guard = open_guard(PERMIT)
    [guarded] = guard_tools([count], guard)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    with guard.session(agent="a"):
        for part, name in ((guard.pdp, "evaluate"), (guard.ledger, "record"), (guard.ledger, "claim")):
            with monkeypatch.context() as patch:
                patch.setattr(type(part), name, broken)
                answer = guarded.invoke(
                    {"name": "count", "args": {"text": "x"}, "id": "c", "type": "tool_call"}
                )
            assert answer.status == "error" and "a bug" not in answer.content
    assert ran == []
