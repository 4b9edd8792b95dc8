"""`@guard.tool(confined=True)`: decided like any tool; run in a process of its own, or refused."""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from host import require
from importables import Written, written

from fumehood import ConfigError, Denied, Guard, JobFailed, Withheld, confine
from fumehood.binding import define
from fumehood.ledger import StopScope
from fumehood.testing import guarded

POLICY = """
package policies.own

import data.fumehood.call

permit if is_string(call.tool)

deny contains "not this one" if call.tool == "refused"

confine contains "strictest" if call.tool == "forks"

confine contains {"profile": "python-offline", "limits": {"memory_bytes": 100000000}} if call.tool == "eats"

confine contains "shell" if call.tool == "shelled"

withhold contains "no passwords" if contains(sprintf("%v", [call.result]), "password")

redact contains {"pattern": "[0-9]{16}"} if call.tool == "cards"
"""

TOOLS = """
import asyncio, enum, functools, os, sys, time
from typing import Annotated, Any, Literal, TypedDict
from pydantic import AfterValidator, Field

class Tone(enum.IntEnum): LOW = 1
def toned(n: Annotated[int, AfterValidator(Tone)]) -> int: return n

def echo(a: int, b: float = 1.0, /, *, c: list[str] | None = None,
         d: Annotated[str, Field(max_length=3)] = "d",
         e: Literal["x", 1, True, None] = "x", f: dict[str, Any] = {}, **more: str) -> list[Any]:
    "Says what it got."
    return [a, b, c, d, e, f, more]

def where() -> int: return os.getpid()
def environment() -> dict[str, str]: return dict(os.environ)
async def later(n: int) -> int:
    await asyncio.sleep(0)
    return n
def refused() -> int: return 1
def fails(): raise PermissionError("my own words")
def password(): return "the password is x"
def says_password(): raise ValueError("the password is x")
def cards(): return {"card": "1234567812345678", "n": 1}
def forks() -> int: return os.fork()
def eats() -> int: return len(bytearray(300_000_000))
def shelled() -> int: return 1
def sleeps() -> None: time.sleep(60)
def reads(path: str) -> str: return open(path).read()
def writes(path: str) -> int: return open(path, "w").write("x")
def caught(code: str) -> object: return eval(code)
"""

GUARDED = """
import functools
from fumehood import Guard, Denied
guard = Guard({policies!r}, ledger={ledger!r}, isolation="thread")

def twice(function):
    @functools.wraps(function)
    def both(*args, **kwargs): return [function(*args, **kwargs), function(*args, **kwargs)]
    return both

class Registered:
    def __init__(self, function): self.function = function

@guard.tool(confined=True)
@twice
def below(n: int) -> list[int]: return n

@Registered
@guard.tool(confined=True)
def above(n: int) -> int: return n + 1

@guard.tool(confined=True)
def replaced(n: int) -> int: return n
kept = replaced
replaced = None

@guard.tool(confined=True)
def first(n: int) -> int: return 1
earlier = first

@guard.tool(confined=True)
def first(n: int) -> int: return 2

@guard.tool(kind="read")
def plain(n: int) -> int: return n * 2

@guard.tool(confined=True)
def calls_another(n: int) -> int: return plain(n)

@guard.tool(confined=True)
def asks_the_guard() -> str: return guard.call("plain", {{"n": 1}}, run=plain)

@guard.tool(confined=True)
def opens_another() -> bool:
    with Guard("nothing", "of", these="exist") as inner:
        return inner.tool(plain) is plain
"""


@pytest.fixture(autouse=True)
def confinable() -> None:
    require("userns")


@pytest.fixture(scope="module")
def package() -> Iterator[Written]:
    with written(tools=TOOLS) as made:
        yield made
    confine.close()


@pytest.fixture(scope="module")
def tools(package: Written) -> ModuleType:
    return package.module("tools")


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "own.rego").write_text(POLICY)
    return folder


@pytest.fixture
def guard(policies: Path, tmp_path: Path) -> Iterator[Guard]:
    with guarded(policies, folder=tmp_path) as made, made.session(agent="bot"):
        yield made


@pytest.fixture
def here(policies: Path, tmp_path: Path) -> Iterator[ModuleType]:
    """A module that opens its own guard and decorates in every way."""
    source = GUARDED.format(policies=str(policies), ledger=str(tmp_path / "own.db"))
    with written(guarded=source) as made:
        module = made.module("guarded")
        with module.guard, module.guard.session(agent="bot"):
            yield module


def confinement_of(guard: Guard) -> dict[str, Any]:
    """How the last call was confined, as the record says."""
    guard.ledger.flush()
    last = [e for e in guard.ledger.events() if e.kind == "outcome"][-1]
    return dict(json.loads(last.attributes)["fumehood.detail"]["fumehood.confinement"])


# --- it runs elsewhere, with what was decided ------------------------------------------------


def test_the_body_gets_the_bound_values_type_by_type(guard: Guard, tools: ModuleType) -> None:
    echo = guard.tool(confined=True)(tools.echo)
    answer = echo("1", 2, c=["x"], e=True, f={"a": [1.5, None]}, z="9")
    assert json.dumps(answer) == '[1, 2.0, ["x"], "d", true, {"a": [1.5, null]}, {"z": "9"}]'
    assert (echo.__name__, echo.__doc__) == ("echo", "Says what it got.")


def test_it_runs_in_another_process_and_policy_knows(guard: Guard, tools: ModuleType) -> None:
    assert guard.tool(confined=True)(tools.where)() != os.getpid()
    detail = confinement_of(guard)
    assert (detail["profile"], detail["exit"], detail["code"]) == ("python-offline", "exited", 0)
    assert "seccomp" in detail["layers"]


def test_arguments_that_do_not_fit_are_denied_and_nothing_runs(guard: Guard, tools: ModuleType) -> None:
    echo = guard.tool(confined=True)(tools.echo)
    for arguments in ({"d": "long"}, {"c": [1]}, {"f": {"a": Decimal(1)}}, {"more": b"x"}, {"z": {1, 2}}):
        with pytest.raises(Denied) as denied:
            echo(1, **arguments)
        assert denied.value.code == "bad_arguments"


def test_values_that_would_be_of_another_type_inside_are_denied(guard: Guard, tools: ModuleType) -> None:
    assert guard.tool(tools.toned)(1) is tools.Tone.LOW
    with pytest.raises(Denied, match="would not be the same in another process"):
        guard.tool(confined=True, name="other")(tools.toned)(1)


async def test_coroutines_and_functions_can_both_be_awaited(guard: Guard, tools: ModuleType) -> None:
    assert await guard.tool(confined=True)(tools.later)(7) == 7
    assert await guard.acall("where", {}, run=tools.where) == os.getpid()


async def test_awaiting_never_blocks_the_loop(guard: Guard, tools: ModuleType) -> None:
    later = guard.tool(confined=True)(tools.later)
    answers = await asyncio.gather(*(later(n) for n in range(8)))
    assert answers == list(range(8))


async def test_a_coroutine_function_is_not_run_by_a_thread_of_the_guards(
    guard: Guard, tools: ModuleType
) -> None:
    await guard.tool(confined=True)(tools.later)(1)
    assert not [t for t in threading.enumerate() if t.name.startswith("fumehood-body")]


def test_only_named_variables_go_in_with_their_value_of_the_moment(
    guard: Guard, tools: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FH_SECRET", "never this one")
    environment = guard.tool(confined=True, env=("FH_TOKEN",))(tools.environment)
    with pytest.raises(Denied) as denied:
        environment()
    assert denied.value.code == "cannot_confine" and "FH_TOKEN" in str(denied.value.__cause__)
    for value in ("one", "two"):
        monkeypatch.setenv("FH_TOKEN", value)
        seen = environment()
        assert seen["FH_TOKEN"] == value
        assert "never this one" not in json.dumps(seen)


def test_folders_are_read_and_written_where_named(guard: Guard, tools: ModuleType, tmp_path: Path) -> None:
    shown, target = tmp_path / "shown", tmp_path / "target"
    shown.mkdir()
    target.mkdir()
    (shown / "a").write_text("text")
    reads = guard.tool(confined=True, read=[shown])(tools.reads)
    assert reads(str(shown / "a")) == "text"
    writes = guard.tool(confined=True, read=[shown], write=[target])(tools.writes)
    assert writes(str(target / "b")) == 1 and (target / "b").read_text() == "x"
    with pytest.raises(JobFailed):
        writes(str(shown / "b"))
    writes(str(tmp_path / "b"))  # into a private memory folder
    assert not (shown / "b").exists() and not (tmp_path / "b").exists()


def test_the_guards_tier_is_used(policies: Path, tmp_path: Path, tools: ModuleType) -> None:
    ledger = tmp_path / "tier.db"
    with (
        Guard(policies, ledger=ledger, isolation="thread", tier="no-userns") as guard,
        guard.session(agent="b"),
    ):
        assert guard.tool(confined=True)(tools.where)() != os.getpid()
        assert confinement_of(guard)["tier"] == "no-userns"


# --- the policy -------------------------------------------------------------------------------------------


def test_what_policy_refuses_never_runs(guard: Guard, tools: ModuleType) -> None:
    with pytest.raises(Denied, match="not this one"):
        guard.tool(confined=True)(tools.refused)()


def test_the_stricter_of_its_own_profile_and_the_policys_counts(guard: Guard, tools: ModuleType) -> None:
    with pytest.raises(JobFailed, match="PermissionError"):
        guard.tool(confined=True)(tools.forks)()
    assert confinement_of(guard)["profile"] == "python-offline+strictest"
    with pytest.raises(JobFailed):
        guard.tool(confined=True, limits={"memory_bytes": 2 << 30})(tools.eats)()


def test_limits_of_its_own_bound_it(guard: Guard, tools: ModuleType) -> None:
    assert guard.tool(confined=True, name="free")(tools.eats)() == 300_000_000
    with pytest.raises(JobFailed):
        guard.tool(confined=True, name="free", limits={"memory_bytes": 64 << 20})(tools.eats)()


def test_a_profile_that_shows_no_python_is_a_denial(guard: Guard, tools: ModuleType) -> None:
    with pytest.raises(Denied) as denied:
        guard.tool(confined=True)(tools.shelled)()
    assert denied.value.code == "cannot_confine"


def test_a_policy_that_drops_the_folders_wins(guard: Guard, tools: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    forks = guard.tool(confined=True, name="forks", write=[target])(tools.writes)
    with pytest.raises(JobFailed):
        forks(str(target / "x"))
    assert list(target.iterdir()) == []


def test_a_tool_of_this_process_that_must_be_confined_is_told_how(guard: Guard, tools: ModuleType) -> None:
    with pytest.raises(Denied, match=r"@guard\.tool\(confined=True\)") as denied:
        guard.tool(tools.forks)()
    assert denied.value.code == "cannot_confine"


def test_results_and_errors_are_judged_like_any_others(guard: Guard, tools: ModuleType) -> None:
    for function in (tools.password, tools.says_password):
        with pytest.raises(Withheld) as withheld:
            guard.tool(confined=True)(function)()
        assert "the password is" not in str(withheld.value)
    assert guard.tool(confined=True)(tools.cards)() == {"card": "[redacted]", "n": 1}


def test_what_comes_from_inside_is_untrusted(guard: Guard, tools: ModuleType) -> None:
    with guard.session(agent="bot", prompt="Please") as session:
        answer = guard.tool(confined=True)(tools.caught)("4711 + 1")
        definition = define("pay", schema={"properties": {"n": {"type": "integer"}}})
        origins = session.provenance({"n": answer}, definition, ())
    assert "untrusted" in json.dumps(origins) and '"user"' not in json.dumps(origins)


def test_an_exception_is_words_and_never_itself(guard: Guard, tools: ModuleType) -> None:
    with pytest.raises(JobFailed, match="it says: PermissionError: my own words") as failed:
        guard.tool(confined=True)(tools.fails)()
    assert (failed.value.kind, failed.value.type_name) == ("raised", "PermissionError")


def test_a_deadline_and_a_stop_end_it(guard: Guard, tools: ModuleType) -> None:
    with pytest.raises(JobFailed) as failed:
        guard.tool(confined=True, timeout_s=0.5)(tools.sleeps)()
    assert failed.value.kind == "deadline"

    def stop() -> None:
        until = time.monotonic() + 20
        while not guard.jobs.count and time.monotonic() < until:
            time.sleep(0.01)
        guard.ledger.stop(StopScope.AGENT, "bot", by="test")

    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(JobFailed) as failed:
        guard.tool(confined=True)(tools.sleeps)()
    stopping.join()
    assert failed.value.kind == "stopped"


# --- found again by name ------------------------------------------------------------------------------------


def test_decorators_below_run_inside_and_those_above_stay_outside(here: ModuleType) -> None:
    assert here.below(3) == [3, 3]
    assert here.above.function(3) == 4


def test_the_guarded_function_is_called_whatever_became_of_its_name(here: ModuleType) -> None:
    assert here.kept(5) == 5
    assert (here.earlier(0), here.first(0)) == (1, 2)


def test_inside_there_is_no_guard(here: ModuleType) -> None:
    assert here.calls_another(4) == 8
    assert here.opens_another() is True
    with pytest.raises(JobFailed, match="nothing can be decided or recorded here"):
        here.asks_the_guard()


def test_a_file_that_changed_meanwhile_is_an_error_and_nothing_else_runs(guard: Guard) -> None:
    with written(tools="def f() -> int: return 1\n") as package:
        tool = guard.tool(confined=True)(package.module("tools").f)
        package.add({"tools.py": "# another line\ndef f() -> int: return 2\n"})
        with pytest.raises(JobFailed, match="is not the function that was meant"):
            tool()


def test_a_decorator_that_is_no_function_runs_inside(guard: Guard, bad: ModuleType) -> None:
    assert guard.tool(confined=True)(bad.cached)(3) == 3
    assert bad.cached.cache_info().misses == 0


# --- refused when decorated ---------------------------------------------------------------------------------

BAD = """
import collections.abc, dataclasses, datetime, decimal, enum, functools, pathlib, typing
from pydantic import BaseModel
class Model(BaseModel): a: int
class Colour(enum.Enum): RED = 1
class Pair(typing.NamedTuple): a: int
@dataclasses.dataclass
class Data: a: int
class Holder:
    def method(self, a: int) -> int: return a
    @staticmethod
    def static(a: int) -> int: return a
    @classmethod
    def of(cls, a: int) -> int: return a
    def __call__(self, a: int) -> int: return a
@functools.lru_cache
def cached(a: int) -> int: return a
def outer():
    word = "x"
    def closure() -> str: return word
    def nested() -> str: return "x"
    return closure, nested
def disguised():
    word = "x"
    def f() -> str: return word
    f.__qualname__ = f.__name__ = "f"
    return f
def generator(): yield 1
async def agenerator(): yield 1
def star(*args: int): return args
def f() -> int: return 1
wrapped = functools.wraps(f)(lambda: 1)
anonymous = lambda: 1
def unknown(a: "Nowhere"): return a
def takes_model(a: Model): return 1
def takes_bytes(a: bytes): return 1
def takes_set(a: set[int]): return 1
def takes_tuple(a: tuple[int, int]): return 1
def takes_decimal(a: list[decimal.Decimal | None]): return 1
def takes_datetime(a: datetime.datetime): return 1
def takes_path(a: pathlib.Path): return 1
def takes_enum(a: Colour): return 1
def takes_member(a: typing.Literal[Colour.RED]): return 1
def takes_data(a: Data): return 1
def takes_pair(a: Pair): return 1
def takes_keys(a: dict[int, str]): return 1
def takes_callable(a: collections.abc.Callable[[], int]): return 1
def takes_more(**more: bytes): return 1
def gives_model() -> Model: return Model(a=1)
def gives_tuple() -> tuple[int, int]: return (1, 1)
async def gives_bytes() -> bytes: return b""
"""
INJECTED = """
from typing import Annotated
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import InjectedToolArg, InjectedToolCallId
from langgraph.prebuilt import InjectedState, ToolRuntime
def argument(a: Annotated[int, InjectedToolArg]): return 1
def instance(a: Annotated[str, InjectedToolArg()]): return 1
def call_id(a: Annotated[str, InjectedToolCallId]): return 1
def config(config: RunnableConfig): return 1
def maybe(config: RunnableConfig | None = None): return 1
def state(a: Annotated[dict, InjectedState("x")]): return 1
def runtime(runtime: ToolRuntime): return 1
"""


@pytest.fixture(scope="module")
def bad() -> Iterator[ModuleType]:
    with written(bad=BAD) as package:
        yield package.module("bad")


def refusal(guard: Guard, function: Any, **options: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        guard.tool(confined=True, **options)(function)
    return str(refused.value)


@pytest.mark.parametrize(
    ("find", "words"),
    [
        (lambda m: m.anonymous, "a lambda .* it has no name; write a function"),
        (lambda m: m.outer()[0], "defined inside another function.*move it to the top level"),
        (lambda m: m.outer()[1], "defined inside another function"),
        (lambda m: m.disguised(), "defined inside another function"),
        (lambda m: m.wrapped, "the name in its module leads to another object"),
        (lambda m: functools.lru_cache(m.f), "decorate it where it is defined"),
        (lambda m: m.Holder().method, "is a method"),
        (lambda m: m.Holder.method, "defined in a class"),
        (lambda m: m.Holder.static, "defined in a class"),
        (lambda m: m.Holder.of, "is a method"),
        (lambda m: m.Holder(), "is not a function written in Python"),
        (lambda m: m.Holder, "is not a function written in Python"),
        (lambda m: functools.partial(m.f), "a partial .* write a function that calls it"),
        (lambda m: len, "is not a function written in Python"),
        (lambda m: os.stat, "is not a function written in Python"),
        (lambda m: m.generator, "is a generator.*return a list"),
        (lambda m: m.agenerator, "is a generator"),
        (lambda m: m.star, r"\*args has no JSON name"),
        (lambda m: m.unknown, "type hints cannot be resolved"),
    ],
)
def test_what_cannot_be_found_again_is_refused(
    guard: Guard, bad: ModuleType, find: Callable[[ModuleType], Any], words: str
) -> None:
    assert re.search(words, refusal(guard, find(bad))), words


@pytest.mark.parametrize("name", [n for n in BAD.split() if n.startswith(("takes_", "gives_"))])
def test_what_does_not_survive_json_is_refused(guard: Guard, bad: ModuleType, name: str) -> None:
    text = refusal(guard, getattr(bad, name.partition("(")[0]))
    assert "does not survive JSON; declare bool, int," in text
    assert ("what it returns" if name.startswith("gives_") else "its argument '") in text


@pytest.mark.parametrize("name", ["argument", "instance", "call_id", "config", "maybe", "state", "runtime"])
def test_what_a_framework_injects_is_refused(guard: Guard, name: str) -> None:
    with written(injected=INJECTED) as package:
        text = refusal(guard, getattr(package.module("injected"), name))
    assert "injects its argument" in text


def test_functions_of_the_program_itself_are_refused(guard: Guard, tools: ModuleType) -> None:
    program = ModuleType("__main__")
    exec("def f() -> int: return 1", program.__dict__)
    assert "import that" in refusal(guard, program.f)


def test_functions_without_their_modules_file_are_refused(guard: Guard) -> None:
    with written(tools="def f() -> int: return 1") as package:
        module = package.module("tools")
        made = ModuleType("nowhere")
        exec("def f() -> int: return 1", made.__dict__)
        assert "is not the one it was defined in" in refusal(guard, made.f)
        exec("def g() -> int: return 1", module.__dict__)
        assert "was not read from the file" in refusal(guard, module.g)
        loaded = package.module("tools").f
        del sys.modules[module.__name__]
        assert package.module("tools").f is not loaded
        assert "is not the one it was defined in" in refusal(guard, loaded)


def test_modules_that_lie_elsewhere_are_refused(guard: Guard, tmp_path: Path) -> None:
    source = "def f() -> int: return 1"
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text(source)
    with written() as package:
        package.add({"inner/deep.py": source, "real.py": source})
        os.symlink(elsewhere, package.folder / package.name / "linked.py")
        os.symlink("real.py", package.folder / package.name / "alias.py")
        assert "inner is a namespace package" in refusal(guard, package.module("inner.deep").f)
        for name in ("linked", "alias"):
            assert "reached through a link" in refusal(guard, package.module(name).f)


def test_a_package_behind_a_link_is_found(guard: Guard, tmp_path: Path) -> None:
    with written() as package, written(tools="from . import other\ndef f() -> int: return other.N") as real:
        real.add({"other.py": "N = 4"})
        link = package.folder / f"{package.name}link"
        link.symlink_to(real.folder / real.name)
        module = importlib.import_module(f"{link.name}.tools")
        assert guard.tool(confined=True)(module.f)() == 4


def test_a_package_that_holds_the_guards_files_is_refused(tmp_path: Path) -> None:
    with written(tools="def f() -> int: return 1") as package:
        inner = package.folder / package.name / "policies"
        inner.mkdir()
        (inner / "own.rego").write_text(POLICY)
        with guarded(inner, folder=tmp_path) as guard:
            text = refusal(guard, package.module("tools").f)
        assert "policies, which is the guard's, lie in each other; keep ledger and policies" in text
        (package.folder / "own.rego").write_text(POLICY)
        with guarded(package.folder, folder=inner) as guard:
            assert "lie in each other" in refusal(guard, package.module("tools").f)


def test_files_beside_the_package_are_no_reason_to_refuse(policies: Path) -> None:
    with (
        written(tools="def f() -> int: return 1") as package,
        guarded(policies, folder=package.folder) as guard,
    ):
        assert guard.tool(confined=True)(package.module("tools").f)() == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"profile": "nowhere"}, "no profile named 'nowhere'"),
        ({"profile": "shell"}, "does not run Python"),
        ({"profile": "pdp"}, "does not run Python"),
        ({"read": ["/etc"]}, "would open /etc"),
        ({"read": ["/not/there"]}, "something that exists"),
        ({"write": ["/"]}, "would open"),
        ({"read": "/srv"}, "lists of paths"),
        ({"limits": {"memory": 1}}, "memory"),
        ({"limits": {"memory_bytes": 1}}, "memory_bytes"),
        ({"env": "TOKEN"}, "a list of names"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"kindd": "read"}, "kindd"),
    ],
)
def test_a_place_that_does_not_exist_is_refused(
    guard: Guard, tools: ModuleType, options: dict[str, Any], words: str
) -> None:
    assert words in refusal(guard, tools.where, **options)


def test_the_guards_own_files_are_never_shown(guard: Guard, tools: ModuleType, tmp_path: Path) -> None:
    for option in ("read", "write"):
        assert "belongs to the guard" in refusal(guard, tools.where, **{option: [tmp_path]})


def test_its_own_code_can_never_be_written(guard: Guard, package: Written, tools: ModuleType) -> None:
    for folder in (package.folder, package.folder / package.name):
        assert "name a folder apart from the code" in refusal(guard, tools.where, write=[folder])


def test_a_place_is_only_for_confined_tools(guard: Guard, tools: ModuleType) -> None:
    with pytest.raises(ConfigError, match="write confined=True, too"):
        guard.tool(timeout_s=3)(tools.where)
