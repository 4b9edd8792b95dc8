"""To LangChain and LangGraph a guarded tool is the tool that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest
from adapters.conftest import Open
from langchain_core.callbacks import BaseCallbackHandler, CallbackManagerForToolRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import (
    BaseTool,
    InjectedToolArg,
    InjectedToolCallId,
    StructuredTool,
    Tool,
    ToolException,
    create_retriever_tool,
    tool,
)
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode, ToolRuntime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fumehood import Denied, Guard
from fumehood.errors import ConfigError
from fumehood_adapters.langchain import guard_tools


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    city: str
    lines: list[str] = Field(default_factory=list)


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    order_id: str = Field(alias="orderId", description="The order")
    amount: float = Field(gt=0)
    day: date | None = None
    color: Color = Color.RED
    address: Address | None = None

    @field_validator("order_id")
    @classmethod
    def is_an_order(cls, value: str) -> str:
        if not value.startswith("A-"):
            raise ValueError("an order begins with A-")
        return value


class State(BaseModel):
    messages: list[Any]


class Wanted(BaseModel):
    x: int
    state: Annotated[State, InjectedState]


def call(name: str, call_id: str = "c1", **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args, "id": call_id, "type": "tool_call"}


@pytest.fixture
def guard(open_guard: Open) -> Iterator[Guard]:
    guard = open_guard()
    with guard.session(agent="a"):
        yield guard


def in_node(tools: list[BaseTool], *tool_calls: dict[str, Any], store: BaseStore | None = None) -> list[Any]:
    """What a graph with one ToolNode answers to these tool calls."""
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "tools")
    message = AIMessage("", tool_calls=list(tool_calls))  # type: ignore[arg-type]
    state = graph.compile(store=store).invoke({"messages": [message]})
    return list(state["messages"][1:])


def test_it_looks_like_the_original(guard: Guard) -> None:
    @tool(return_direct=True, extras={"cache": True})
    def look(query: str, limit: int = 3) -> str:
        """Look something up."""
        return query * limit

    look.tags, look.metadata = ["t"], {"m": 1}
    [guarded] = guard_tools([look], guard)
    for name in ("name", "description", "args_schema", "args", "return_direct", "tags", "metadata", "extras"):
        assert getattr(guarded, name) == getattr(look, name), name
    assert convert_to_openai_tool(guarded) == convert_to_openai_tool(look)
    assert guarded.get_input_schema() is look.get_input_schema()
    assert guarded.is_single_input == look.is_single_input
    assert guarded.get_name() == "look"


def test_a_legacy_tool_keeps_having_no_schema(guard: Guard) -> None:
    [guarded] = guard_tools([Tool(name="t", func=str.upper, description="Shout.")], guard)
    assert guarded.args_schema is None
    assert guarded.args == {"tool_input": {"type": "string"}}
    shown = convert_to_openai_tool(guarded)["function"]["parameters"]
    assert list(shown["properties"]) == ["tool_input"]
    assert guarded.invoke("a") == "A"
    assert guarded.invoke({"__arg1": "a"}) == "A"
    assert guarded.invoke(call("t", __arg1="a")).content == "A"
    with pytest.raises(ToolException):
        guarded.invoke({"a": "a", "b": "b"})


def test_a_json_schema_tool_takes_plain_json(guard: Guard) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    made = StructuredTool(name="t", description="T.", args_schema=schema, func=lambda a: a + 1)
    [guarded] = guard_tools([made], guard)
    assert guarded.invoke({"a": 1}) == 2
    assert convert_to_openai_tool(guarded) == convert_to_openai_tool(made)
    with pytest.raises(Denied) as refused:
        guarded.invoke({"a": object()})
    assert refused.value.code == "bad_arguments"


def test_arguments_are_validated_and_defaults_filled_in(guard: Guard) -> None:
    got: list[Any] = []

    def pay(**given: Any) -> str:
        got.append(given)
        return "paid"

    [guarded] = guard_tools(
        [StructuredTool.from_function(pay, name="pay", description="P.", args_schema=Order)], guard
    )
    guarded.invoke({"orderId": "A-1", "amount": "40", "day": "2026-11-24", "address": {"city": "X"}})
    assert got == [
        {
            "order_id": "A-1",
            "amount": 40.0,
            "day": date(2026, 11, 24),
            "color": Color.RED,
            "address": Address(city="X"),
        }
    ]
    for wrong in ({"orderId": "B-1", "amount": 1}, {"orderId": "A-1", "amount": 0}, {"amount": 1}):
        answer = guarded.invoke(call("pay", **wrong))
        assert answer.status == "error" and "bad_arguments" in answer.content
    assert len(got) == 1


def test_policy_sees_fields_by_name_not_by_alias(open_guard: Open) -> None:
    guard = open_guard(
        'package policies.t\nimport data.fumehood.call\npermit if call.args.order_id == "A-1"\n'
    )
    made = StructuredTool.from_function(lambda **_: "ok", name="pay", description="P.", args_schema=Order)
    [guarded] = guard_tools([made], guard, annotations={"pay": {"kind": "money", "target": ["order_id"]}})
    with guard.session(agent="a"):
        assert guarded.invoke({"orderId": "A-1", "amount": 1}) == "ok"
        with pytest.raises(Denied):
            guarded.invoke({"orderId": "A-2", "amount": 1})


def test_an_optional_argument_without_optional_type_may_be_left_out(guard: Guard) -> None:
    @tool
    def search(query: str, limit: int = None) -> str:  # type: ignore[assignment]  # noqa: RUF013 - common, and sloppy
        """Search."""
        return f"{query} {limit}"

    [guarded] = guard_tools([search], guard)
    assert guarded.invoke({"query": "a"}) == "a None"
    assert guarded.invoke({"query": "a", "limit": 2}) == "a 2"


def test_variadic_functions_work_as_they_did(guard: Guard) -> None:
    @tool
    def act(x: int, *args: int, **kwargs: str) -> str:
        """Act."""
        return f"{x} {args} {kwargs}"

    [guarded] = guard_tools([act], guard)
    assert guarded.invoke({"x": 1}) == act.invoke({"x": 1}) == "1 () {}"


def test_a_tool_may_have_an_argument_called_config(guard: Guard) -> None:
    class Configure(BaseTool):
        name: str = "configure"
        description: str = "C."

        def _run(self, config: dict[str, int], name: str) -> str:
            return f"{name} {config}"

    [guarded] = guard_tools([Configure()], guard)
    assert guarded.invoke({"config": {"a": 1}, "name": "n"}) == "n {'a': 1}"


def test_the_run_config_and_callbacks_reach_the_body(guard: Guard) -> None:
    seen: list[Any] = []

    @tool
    def act(x: int, config: RunnableConfig) -> str:
        """Act."""
        seen.append(config["configurable"]["who"])
        return "ok"

    class Manager(BaseTool):
        name: str = "managed"
        description: str = "M."

        def _run(self, x: int, run_manager: CallbackManagerForToolRun | None = None) -> str:
            assert run_manager is not None
            seen.append(type(run_manager).__name__)
            return "ok"

    guarded = guard_tools([act, Manager()], guard)
    guarded[0].invoke({"x": 1}, {"configurable": {"who": "me"}})
    guarded[1].invoke({"x": 1})
    assert seen == ["me", "CallbackManagerForToolRun"]


async def test_a_sync_body_awaited_gets_a_sync_run_manager(open_guard: Open) -> None:
    guard = open_guard()
    seen: list[str] = []

    class Manager(BaseTool):
        name: str = "managed"
        description: str = "M."

        def _run(self, x: int, run_manager: CallbackManagerForToolRun | None = None) -> str:
            seen.append(type(run_manager).__name__)
            return "ok"

    [guarded] = guard_tools([Manager()], guard)
    async with guard.session(agent="a"):
        assert await guarded.ainvoke({"x": 1}) == "ok"
    assert seen == ["CallbackManagerForToolRun"]


def test_callback_handlers_see_the_call(guard: Guard) -> None:
    seen: list[str] = []

    class Handler(BaseCallbackHandler):
        def on_tool_start(self, serialized: dict[str, Any], input_str: str, **_: Any) -> None:
            seen.append(f"start {serialized['name']} {input_str}")

        def on_tool_end(self, output: Any, **_: Any) -> None:
            seen.append(f"end {output}")

        def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
            seen.append(f"error {error}")

    @tool
    def act(x: int) -> str:
        """Act."""
        if x == 0:
            raise ValueError("zero")
        return str(x)

    act.callbacks = [Handler()]
    [guarded] = guard_tools([act], guard)
    guarded.invoke({"x": 1})
    with pytest.raises(ValueError, match="zero"):
        guarded.invoke({"x": 0})
    assert seen == ["start act {'x': 1}", "end 1", "start act {'x': 0}", "error zero"]


def test_injected_arguments_reach_the_body_and_are_not_shown(guard: Guard) -> None:
    seen: dict[str, Any] = {}

    @tool
    def act(
        x: int,
        state: Annotated[dict[str, Any], InjectedState],
        messages: Annotated[list[Any], InjectedState("messages")],
        store: Annotated[Any, InjectedStore()],
        call_id: Annotated[str, InjectedToolCallId],
        runtime: ToolRuntime,
    ) -> str:
        """Act."""
        seen.update(state=state, messages=messages, store=store, call_id=call_id, runtime=runtime)
        return str(x)

    store = InMemoryStore()
    [guarded] = guard_tools([act], guard)
    assert set(guarded.args) == {"x"}
    [answer] = in_node([guarded], call("act", "c7", x=1, store="forged", runtime="forged"), store=store)
    assert answer.content == "1"
    assert seen["store"] is store and seen["call_id"] == "c7"
    assert seen["messages"] == seen["state"]["messages"]
    assert seen["runtime"].tool_call_id == "c7"


def test_arguments_injected_into_a_subclass_reach_the_body(guard: Guard) -> None:
    class Shown(BaseModel):
        x: int

    class Act(BaseTool):
        name: str = "act"
        description: str = "A."
        args_schema: type[BaseModel] = Shown

        def _run(self, x: int, runtime: ToolRuntime, who: Annotated[str, InjectedToolArg] = "nobody") -> str:
            return f"{x} {runtime.tool_call_id} {who}"

    [guarded] = guard_tools([Act()], guard)
    [answer] = in_node([guarded], call("act", "c9", x=1, who="forged"))
    assert answer.content == "1 c9 nobody"


def test_an_explicit_schema_may_declare_injected_state(guard: Guard) -> None:
    def act(x: int, state: State) -> str:
        return f"{x} {type(state).__name__}"

    made = StructuredTool.from_function(act, name="act", description="A.", args_schema=Wanted)
    [guarded] = guard_tools([made], guard)
    assert in_node([guarded], call("act", x=1))[0].content == in_node([made], call("act", x=1))[0].content


def test_a_missing_call_id_is_said_as_langchain_says_it(guard: Guard) -> None:
    @tool
    def act(x: int, call_id: Annotated[str, InjectedToolCallId]) -> str:
        """Act."""
        return call_id

    [guarded] = guard_tools([act], guard)
    with pytest.raises(ValueError, match="InjectedToolCallId"):
        guarded.invoke({"x": 1})


def test_content_and_artifact_stay_a_pair(guard: Guard) -> None:
    artifact = object()

    @tool(response_format="content_and_artifact")
    def act(x: int) -> tuple[str, object]:
        """Act."""
        return f"content {x}", artifact

    [guarded] = guard_tools([act], guard)
    answer = guarded.invoke(call("act", x=1))
    assert (answer.content, answer.artifact) == ("content 1", artifact)
    assert guarded.invoke({"x": 1}) == "content 1"


def test_a_denied_pair_is_still_one_message(open_guard: Open) -> None:
    guard = open_guard("package policies.t\nimport data.fumehood.call\npermit if call.args.x == 1\n")

    @tool(response_format="content_and_artifact")
    def act(x: int) -> tuple[str, object]:
        """Act."""
        return "content", 1

    [guarded] = guard_tools([act], guard)
    with guard.session(agent="a"):
        answer = guarded.invoke(call("act", x=2))
    assert isinstance(answer, ToolMessage) and answer.status == "error"


def test_commands_and_messages_pass(guard: Guard) -> None:
    @tool
    def act(call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Act."""
        return Command(update={"messages": [ToolMessage("from a command", tool_call_id=call_id)]})

    [guarded] = guard_tools([act], guard)
    [answer] = in_node([guarded], call("act"))
    assert answer.content == "from a command"


@pytest.mark.parametrize(
    ("handler", "said"),
    [(True, "broken"), ("sorry", "sorry"), (lambda error: f"handled {error}", "handled broken")],
)
def test_tool_exceptions_are_handled_as_the_tool_says(
    guard: Guard, handler: bool | str | Callable[..., str], said: str
) -> None:
    @tool
    def act(x: int) -> str:
        """Act."""
        raise ToolException("broken")

    act.handle_tool_error = handler
    [guarded] = guard_tools([act], guard)
    answer = guarded.invoke(call("act", x=1))
    assert (answer.content, answer.status) == (said, "error")


def test_tool_exceptions_without_a_handler_are_raised(guard: Guard) -> None:
    @tool
    def act(x: int) -> str:
        """Act."""
        raise ToolException("broken")

    [guarded] = guard_tools([act], guard)
    with pytest.raises(ToolException, match="broken"):
        guarded.invoke(call("act", x=1))


def test_validation_errors_are_handled_as_the_tool_says(guard: Guard) -> None:
    @tool
    def act(x: int) -> str:
        """Act."""
        return str(x)

    def handled(error: ValidationError) -> str:
        return f"{error.error_count()} wrong"

    act.handle_validation_error = handled  # type: ignore[assignment]
    [guarded] = guard_tools([act], guard)
    answer = guarded.invoke(call("act", x="one"))
    assert (answer.content, answer.status) == ("1 wrong", "error")


def test_generators_run_while_the_call_is_on_record(guard: Guard) -> None:
    @tool
    def act(n: int) -> Iterator[int]:
        """Act."""
        yield from range(n)

    [guarded] = guard_tools([act], guard)
    assert guarded.invoke({"n": 3}) == [0, 1, 2]


def test_retriever_tools_work(guard: Guard) -> None:
    class Shelf(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            return [Document(page_content=f"about {query}")]

    made = create_retriever_tool(Shelf(), "shelf", "Look.", response_format="content_and_artifact")
    [guarded] = guard_tools([made], guard)
    answer = guarded.invoke(call("shelf", query="gas"))
    assert answer.content == "about gas"
    assert answer.artifact == [Document(page_content="about gas")]


def test_plain_functions_become_guarded_tools(guard: Guard) -> None:
    def shout(text: str) -> str:
        """Shout."""
        return text.upper()

    [guarded] = guard_tools([shout], guard)
    assert (guarded.name, guarded.invoke({"text": "a"})) == ("shout", "A")


def test_pydantic_1_schemas_are_refused_with_the_remedy(guard: Guard) -> None:
    from pydantic.v1 import BaseModel as OldModel

    class Old(OldModel):
        x: int

    made = StructuredTool.from_function(lambda x: x, name="old", description="O.", args_schema=Old)
    with pytest.raises(ConfigError, match="pydantic 2"):
        guard_tools([made], guard)
