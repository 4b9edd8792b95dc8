"""What a tool returns passes the policy whole: content, artifact, messages in a command, errors, chunks."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import UserDict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
from adapters.conftest import PERMIT, Open
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, StructuredTool, ToolException, tool
from langgraph.types import Command
from pydantic import BaseModel, PrivateAttr, computed_field

from fumehood import Withheld
from fumehood.errors import FumehoodError
from fumehood.model import Redact
from fumehood.release import redact
from fumehood_adapters._results import rebuilt, replayed, viewed
from fumehood_adapters.langchain import guard_tools

REDACT = PERMIT + '\nredact contains {"pattern": "sk-[a-z]+"} if is_string(call.tool)\n'
WITHHOLD = PERMIT + '\nwithhold contains "never" if is_string(call.tool)\n'
SECRET = "sk-secret"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**52), 2**52) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_plain_json_is_its_own_view_and_replays_as_itself(value: Any) -> None:
    view, is_faithful = viewed(value, has_artifact=False)
    if is_faithful:
        assert replayed(view, has_artifact=False) == value
    assert rebuilt(value, view, has_artifact=False) is value


@pytest.mark.parametrize(
    "result",
    [
        Command(update={"messages": [ToolMessage("a", tool_call_id="1", artifact={"b": [1]})], "n": 1}),
        Command(goto="model"),
        ToolMessage(["a", {"type": "text", "text": "b"}], tool_call_id="1"),
        [ToolMessage("a", tool_call_id="1"), Command(update={"x": 1})],
        {"a": [1, 2.5, None, True, "x"]},
    ],
)
def test_messages_and_commands_replay_as_themselves(result: Any) -> None:
    view, is_faithful = viewed(result, has_artifact=False)
    assert is_faithful
    assert replayed(view, has_artifact=False) == result


@pytest.mark.parametrize(
    "result",
    [(1, 2), {1: "a"}, object(), math.nan, 2**60, {"command": {"update": {}}}, [Document(page_content="x")]],
)
def test_what_json_cannot_carry_is_not_kept(result: Any) -> None:
    _, is_faithful = viewed(result, has_artifact=False)
    assert not is_faithful


def test_keys_that_look_alike_hide_no_value() -> None:
    view, _ = viewed({1: "one", "1": SECRET}, has_artifact=False)
    assert SECRET in str(view) and "one" in str(view)


def test_a_result_without_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(FumehoodError, match="nested deeper"):
        viewed(endless, has_artifact=False)


def test_an_iterator_in_an_artifact_is_not_used_up() -> None:
    numbers = iter([1, 2])
    viewed(("content", numbers), has_artifact=True)
    assert list(numbers) == [1, 2]


@dataclasses.dataclass(frozen=True)
class Receipt:
    key: str
    number: int


def test_a_redacted_copy_has_the_same_types() -> None:
    result = (
        ["a", {"type": "text", "text": SECRET}],
        [Document(page_content=SECRET, metadata={"k": 1}), Receipt(SECRET, 7)],
    )
    view, _ = viewed(result, has_artifact=True)
    assert isinstance(view, dict)
    view["content"][1]["text"] = view["artifact"][0]["page_content"] = view["artifact"][1]["key"] = "-"  # type: ignore[index,call-overload]
    made: Any = rebuilt(result, view, has_artifact=True)
    assert made == (
        ["a", {"type": "text", "text": "-"}],
        [Document(page_content="-", metadata={"k": 1}), Receipt("-", 7)],
    )
    assert SECRET in str(result)  # the original is as it was


def test_a_message_that_is_redacted_whole_stays_a_message() -> None:
    result = Command(update={"messages": [ToolMessage(SECRET, tool_call_id="1"), HumanMessage("b")]})
    view: Any = viewed(result, has_artifact=False)[0]
    view["command"]["update"]["messages"][0] = "[redacted]"
    made: Any = rebuilt(result, view, has_artifact=False)
    assert made.update["messages"] == [ToolMessage("[redacted]", tool_call_id="1"), HumanMessage("b")]


def test_what_makes_a_message_that_message_is_kept() -> None:
    result = ToolMessage("text", tool_call_id="tool")
    view: Any = viewed(result, has_artifact=False)[0]
    view.update(type="-", tool_call_id="-", content="-")
    made: Any = rebuilt(result, view, has_artifact=False)
    assert (made.type, made.tool_call_id, made.content) == ("tool", "tool", "-")


def test_an_opaque_object_cannot_be_redacted() -> None:
    class Opaque:
        def __str__(self) -> str:
            return SECRET

    result = {"a": [Opaque()]}
    view: Any = viewed(result, has_artifact=False)[0]
    assert view == {"a": [SECRET]}
    made: Any = rebuilt(result, {"a": ["-"]}, has_artifact=False)
    assert made == {"a": ["-"]}
    with pytest.raises(FumehoodError, match="cannot be redacted"):
        rebuilt({"a": {1, 2}}, {"a": [1, "-"]}, has_artifact=False)


def _call(name: str) -> dict[str, Any]:
    return {"name": name, "args": {}, "id": "c1", "type": "tool_call"}


@tool
def text() -> str:
    """Text."""
    return f"key {SECRET}"


@tool
def chunks() -> Iterator[str]:
    """Chunks."""
    yield "key "
    yield SECRET


@tool(response_format="content_and_artifact")
def pair() -> tuple[str, Any]:
    """Pair."""
    return f"key {SECRET}", {"docs": [Document(page_content=SECRET)]}


@tool
def command(call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Command."""
    message = ToolMessage(SECRET, tool_call_id=call_id, artifact=[SECRET])
    return Command(update={"messages": [message], "notes": {"k": SECRET}})


@tool
def failing() -> str:
    """Fail."""
    raise ValueError(f"bad key {SECRET}")


@pytest.mark.parametrize("made", [text, chunks, pair, command])
def test_a_redaction_reaches_every_part_of_a_result(open_guard: Open, made: Any) -> None:
    guard = open_guard(REDACT)
    [guarded] = guard_tools([made], guard)
    with guard.session(agent="a"):
        answer = guarded.invoke(_call(made.name))
        assert SECRET not in repr(answer) and "[redacted]" in repr(answer)
        if made is not command:
            streamed = [*guarded.stream({}), *guarded.batch([{}])]
            assert SECRET not in repr(streamed)
        guard.ledger.flush()
        assert not [e for e in guard.ledger.events() if SECRET in f"{e.summary}{e.attributes!r}"]


@pytest.mark.parametrize("made", [text, chunks, pair, command, failing])
def test_a_withheld_result_is_nowhere(open_guard: Open, made: Any) -> None:
    guard = open_guard(WITHHOLD)
    [guarded] = guard_tools([made], guard)
    with guard.session(agent="a"):
        answer = guarded.invoke(_call(made.name))
        assert isinstance(answer, ToolMessage) and answer.status == "error"
        assert SECRET not in repr(answer) and "do not call it again" in answer.content
        if made is not command:
            with pytest.raises(Withheld) as withheld:
                guarded.invoke({})
            assert SECRET not in str(withheld.value)


def test_an_exception_that_would_have_to_be_redacted_is_withheld(open_guard: Open) -> None:
    guard = open_guard(REDACT)
    [guarded] = guard_tools([failing], guard)
    with guard.session(agent="a"):
        with pytest.raises(Withheld) as withheld:
            guarded.invoke({})
    chain: list[BaseException] = []
    error: BaseException | None = withheld.value
    while error is not None:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert not [e for e in chain if SECRET in str(e)]


class Computed(BaseModel):
    a: int
    _hidden: str = PrivateAttr(default=SECRET)

    @computed_field
    @property
    def b(self) -> str:
        return self._hidden


class Says(BaseModel):
    a: int = 1

    def __str__(self) -> str:
        return SECRET


class SaysInLists(BaseModel):
    a: int = 1

    def __repr_args__(self) -> Any:
        return [("a", SECRET)]


@dataclasses.dataclass
class Record:
    a: int = 1

    def __repr__(self) -> str:
        return SECRET


class Opaque:
    def __str__(self) -> str:
        return "fine"

    def __repr__(self) -> str:
        return SECRET


class Text(str):
    def __str__(self) -> str:
        return "fine"


class Names(Mapping[str, int]):
    def __getitem__(self, name: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return SECRET


class Bag(set[int]):
    def __repr__(self) -> str:
        return SECRET


@pytest.mark.parametrize(
    "result",
    [
        Computed(a=1),
        Says(),
        SaysInLists(),
        Record(),
        {"a": Record()},
        [Opaque()],
        {"a": Opaque()},
        {Opaque(): 1},
        Text(SECRET),
        [Text(SECRET)],
        Names(),
        Bag(),
        {SECRET: 1},
        {"a": [{SECRET: {SECRET: SECRET}}]},
        (1, Opaque()),
    ],
)
def test_policy_sees_every_text_that_the_model_would_see(open_guard: Open, result: Any) -> None:
    @tool
    def act() -> Any:
        """Act."""
        return result

    call = {"name": "act", "args": {}, "id": "1", "type": "tool_call"}
    assert SECRET in str(act.invoke(call).content)  # unguarded, the model would read it
    rules = '\nwithhold contains "no" if contains(sprintf("%v", [call.result]), "sk-secret")\n'
    guard = open_guard(PERMIT + rules)
    with guard.session(agent="bot"):
        assert SECRET not in str(guard_tools([act], guard)[0].invoke(call).content)
    guard = open_guard(REDACT)
    with guard.session(agent="bot"):
        assert SECRET not in str(guard_tools([act], guard)[0].invoke(call).content)


class Hides(ToolException):
    def __str__(self) -> str:
        return "fine"

    def __repr__(self) -> str:
        return "fine"


@pytest.mark.parametrize("error", [Hides(SECRET), ToolException(Opaque()), ToolException(SECRET), Hides()])
def test_policy_sees_what_is_handed_on_of_an_error(open_guard: Open, error: Exception) -> None:
    @tool
    def act() -> str:
        """Act."""
        raise error

    act.handle_tool_error = True
    call = {"name": "act", "args": {}, "id": "1", "type": "tool_call"}
    handed_on = str(act.invoke(call).content)
    guard = open_guard(REDACT)
    with guard.session(agent="bot"):
        answer = guard_tools([act], guard)[0].invoke(call)
    assert SECRET not in str(answer.content)
    assert (answer.content == handed_on) == (SECRET not in handed_on + repr(error))


def test_objects_without_a_text_of_their_own_are_seen_as_before() -> None:
    view, _ = viewed([Receipt("k", 7), Document(page_content="x")], has_artifact=False)
    assert view[0] == {"key": "k", "number": 7}  # type: ignore[index]
    assert viewed({"a": (1, {2})}, has_artifact=False)[0] == {"a": [1, [2]]}


class Loud(BaseModel):
    a: Any = None

    def __repr_args__(self) -> Any:
        return [("b", self.a)]


@dataclasses.dataclass
class Quiet:
    a: Any = None
    b: Any = dataclasses.field(default=SECRET, repr=False)


_leaves = st.sampled_from(
    [SECRET, "x", 1, None, 2.5, Text(SECRET), SECRET.encode(), ValueError(SECRET), Opaque(), Path(SECRET)]
)
_objects = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(["a", SECRET, 1, (SECRET,)]), inner, max_size=2),
        st.builds(lambda a, b: (a, b), inner, inner),
        *(st.builds(kind, a=inner) for kind in (Loud, Quiet, Record)),
        st.builds(lambda a: UserDict({"a": a}), inner),
        st.builds(lambda a: deque([a]), inner),
        st.builds(lambda a: ToolMessage("c", tool_call_id="1", artifact=a), inner),
        st.builds(lambda a: Document(page_content="c", metadata={"a": a}), inner),
    ),
    max_leaves=4,
)


@given(_objects)
def test_the_model_reads_nothing_that_policy_has_not_seen_or_has_taken_out(result: Any) -> None:
    try:
        view, _ = viewed(result, has_artifact=False)
        shown = redact(view, [Redact(pattern=SECRET)])
        released = rebuilt(result, shown.value, has_artifact=False) if shown.is_changed else result
    except FumehoodError:
        return  # withheld
    assert SECRET in json.dumps(view) or SECRET not in read_by_model(result)
    assert SECRET not in read_by_model(released)


def read_by_model(result: Any) -> str:
    call = {"name": "act", "args": {}, "id": "1", "type": "tool_call"}
    made = StructuredTool.from_function(lambda: result, name="act", description="Act.").invoke(call)
    return "".join(str(getattr(m, "content", m)) for m in (made if isinstance(made, list) else [made]))
