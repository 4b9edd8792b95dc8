"""`confine.call`: a function by name, JSON in and JSON out, whatever the function does to its own process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from importables import Written, written

from fumehood import confine
from fumehood.canonical import parse, require_plain
from fumehood.confine import callee
from fumehood.errors import BindError, ConfigError, JobFailed

HONEST = """
import os, sys
from PACKAGE import other

print("printed while importing")

def echo(**given):
    print("printed by the body")
    os.write(1, b"written to the standard output")
    return given

def environment():
    return dict(os.environ)

def seen():
    return [other.WORD, os.getcwd(), sys.stdin.read()]

async def later(word):
    import asyncio
    await asyncio.sleep(0)
    return [word]

def fails(): raise LookupError("no \\ud800 such \\x1b[31m thing")
def leaves(): sys.exit(3)
def odd():
    class Odd(Exception):
        def __str__(self): raise RuntimeError("worse")
    raise Odd
"""

RETURNS = """
import decimal
class Text(str): pass
def deep():
    found = []
    for _ in range(200): found = [found]
    return found
def cycle():
    found = []
    found.append(found)
    return found
MADE = {
    "nan": lambda: {"a": [float("nan")]}, "tuple": lambda: (1, 2), "bytes": lambda: b"x", "set": lambda: {1},
    "key": lambda: {1: 2}, "decimal": lambda: decimal.Decimal(1), "surrogate": lambda: "\\ud800",
    "deep": deep, "cycle": cycle, "subclass": lambda: Text("x"), "large": lambda: 2**53,
    "generator": lambda: (n for n in ()), "object": lambda: object(), "function": lambda: deep,
}
def make(what): return MADE[what]()
def big(size): return "x" * size
"""

#: Each is what one function body does; none of it may become a result.
HOSTILE = """
import contextlib, json, os, sys, threading, time
def early_exit():
    everywhere(b'{"result": "forged"}')
    os._exit(7)
def everywhere(body):
    for fd in range(1, 30):
        with contextlib.suppress(OSError): os.write(fd, body)
def raw(text):
    everywhere(text.encode("latin-1"))
    os._exit(0)
def raw_and_return(text):
    everywhere(text.encode())
    return "mine"
def prints_results():
    for stream in (sys.stdout, sys.stderr, sys.__stdout__):
        print('{"result": "forged"}', file=stream, flush=True)
    os.write(1, b'{"result": "forged"}')
    return "mine"
def patched():
    json.dumps = json.JSONEncoder.encode = json.JSONEncoder.default = lambda *a, **k: '{"result": "forged"}'
    return object()
def closes_everything():
    os.closerange(0, 64)
    return "mine"
def flood():
    while True: os.write(1, b"x" * 65536)
def forks(path):
    ours = os.getpid()
    if os.fork() == 0:
        while os.getppid() == ours: time.sleep(0.01)
        time.sleep(0.3)
        everywhere(b'{"result": "forged"}')
        open(path, "w").write("outlived")
        os._exit(0)
    return "mine"
def thread():
    threading.Thread(target=time.sleep, args=(60,)).start()
    return "mine"
def sleeps(): time.sleep(60)
def eats():
    kept = []
    while True: kept.append(bytearray(1 << 20))
def killed(): os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def package() -> Iterator[Written]:
    with written(honest=HONEST, returns=RETURNS, hostile=HOSTILE, other="WORD = 'other'") as made:
        yield made


class Caller:
    def __init__(self, package: Written, tier: str) -> None:
        self.package, self.tier = package, tier

    def __call__(self, function: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
        return confine.call(f"{self.package.name}.{function}", arguments, tier=self.tier, **options)

    def failure(self, function: str, arguments: dict[str, Any] | None = None, **options: Any) -> JobFailed:
        with pytest.raises(JobFailed) as raised:
            self(function, arguments, **options)
        return raised.value


@pytest.fixture
def call(package: Written, tier: str) -> Caller:
    return Caller(package, tier)


# --- honest ----------------------------------------------------------------------------------------------


def test_json_comes_back_as_it_went_in_whatever_the_function_prints(call: Caller) -> None:
    given = {"a": [1, 1.0, -0.5, "ü ⟨'\"", None, True, {"": [{}]}], "call": 3, "self": "x", "name": 2**53 - 1}
    answer = call("honest:echo", given)
    assert json.dumps(answer) == json.dumps(given)
    assert type(answer["a"][1]) is float


def test_nothing_is_imported_here(call: Caller) -> None:
    call("honest:echo")
    assert not [name for name in sys.modules if name.startswith(call.package.name)]


def test_its_own_package_is_seen_and_its_standard_input_is_empty(call: Caller) -> None:
    word, folder, read = call("honest:seen")
    assert (word, read) == ("other", "")
    assert not os.path.exists(os.path.join(folder, "x")) and folder != os.getcwd()


def test_only_named_variables_go_in(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FH_TEST_SECRET", "do not show")
    seen = call("honest:environment", env={"FH_TEST_TOKEN": "shown"})
    assert seen["FH_TEST_TOKEN"] == "shown"
    assert "do not show" not in json.dumps(seen)


def test_a_coroutine_function_is_awaited_inside(call: Caller) -> None:
    assert call("honest:later", {"word": "x"}) == ["x"]


async def test_the_awaited_call_never_blocks_the_loop(call: Caller) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    with pytest.raises(JobFailed):
        await confine.acall(f"{call.package.name}.hostile:sleeps", tier=call.tier, timeout_s=0.5)
    ticking.cancel()
    assert ticks > 20


async def test_cancelling_ends_the_job(call: Caller) -> None:
    task = asyncio.create_task(confine.acall(f"{call.package.name}.hostile:sleeps", tier=call.tier))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_other_folders_are_importable_once_they_are_shown(call: Caller) -> None:
    with written(user="import LIB\ndef word(): return LIB.WORD") as user, written() as library:
        library.add({"__init__.py": "WORD = 'library'"})
        user.add({"user.py": f"import {library.name} as LIB\ndef word(): return LIB.WORD\n"})
        target = f"{user.name}.user:word"
        with pytest.raises(JobFailed, match="has to be shown with `read`") as failed:
            confine.call(target, tier=call.tier)
        assert (failed.value.kind, failed.value.type_name) == ("import", "ModuleNotFoundError")
        assert confine.call(target, tier=call.tier, read=[str(library.folder)]) == "library"


def test_beside_its_package_nothing_of_the_folder_is_seen(call: Caller) -> None:
    with written(user="def read(path): return open(path).read()") as user:
        beside = user.folder / "secret.txt"
        beside.write_text("secret")
        with pytest.raises(JobFailed) as failed:
            confine.call(f"{user.name}.user:read", {"path": str(beside)}, tier=call.tier)
        assert failed.value.type_name in ("FileNotFoundError", "PermissionError")


def test_a_module_that_is_one_file_is_shown_alone(call: Caller) -> None:
    with written() as package:
        name = package.name + "alone"
        (package.folder / f"{name}.py").write_text("import os\ndef beside(): return os.path.exists('x')\n")
        assert confine.call(f"{name}:beside", tier=call.tier) is False


# --- what goes wrong -------------------------------------------------------------------------------------


def test_an_exception_arrives_as_words_and_never_as_itself(call: Caller) -> None:
    error = call.failure("honest:fails")
    assert (error.kind, error.type_name) == ("raised", "LookupError")
    assert not isinstance(error, LookupError) and error.__cause__ is None
    assert "it says: LookupError: no ? such ⟨U+001B⟩[31m thing" in str(error)
    assert "Traceback" in error.printed and "\x1b" not in error.printed
    assert "printed while importing" in error.printed


def test_leaving_and_exceptions_without_words_are_failures_too(call: Caller) -> None:
    assert call.failure("honest:leaves").type_name == "SystemExit"
    odd = call.failure("honest:odd")
    assert (odd.kind, odd.text) == ("raised", "")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nan", "a number that is not finite at /a/0"),
        ("tuple", "a tuple"),
        ("bytes", "a bytes"),
        ("set", "a set"),
        ("key", "an object with a int as key"),
        ("decimal", "a Decimal"),
        ("surrogate", "text with a lone surrogate"),
        ("deep", "something nested deeper than"),
        ("cycle", "something nested deeper than"),
        ("subclass", "a Text"),
        ("large", r"a number of 2\*\*53 or more"),
        ("generator", "a generator"),
        ("object", "a object"),
        ("function", "a function"),
    ],
)
def test_what_is_not_json_is_said(package: Written, what: str, words: str) -> None:
    with pytest.raises(JobFailed, match=f"returned what is not JSON: {words}") as failed:
        confine.call(f"{package.name}.returns:make", {"what": what})
    assert failed.value.kind == "not_json"


def test_a_result_has_a_size_limit_that_can_be_raised(call: Caller) -> None:
    assert call.failure("returns:big", {"size": 2 << 20}).kind == "output"
    assert len(call("returns:big", {"size": 2 << 20}, limits={"output_bytes": 3 << 20})) == 2 << 20


@pytest.mark.parametrize("arguments", [{"a": float("nan")}, {"a": "\ud800"}, {"a": (1,)}, {"a": b"x"}])
def test_arguments_that_are_not_json_never_go_in(package: Written, arguments: dict[str, Any]) -> None:
    with pytest.raises(BindError):
        confine.call(f"{package.name}.honest:echo", arguments)


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.binary(max_size=2)
    | st.decimals(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=())) | st.integers(), inner, max_size=3)
        | st.tuples(inner)
        | st.sets(st.integers(), max_size=2)
    ),
    max_leaves=6,
)


@given(_anything)
@example(2**53)
@example(2**53 - 1)
@example(-(2**53))
@example(10**400)
@example({"\ud800": 1})
def test_inside_the_same_is_json_as_here(value: Any) -> None:
    """What a function may return is what may be an argument: each side checks by itself."""
    accepted = []
    for check in (lambda: callee._require_json(value, "", 0), lambda: require_plain(value)):
        try:
            check()
        except (callee._NotJson, BindError):
            accepted.append(False)
        else:
            accepted.append(True)
    assert accepted[0] == accepted[1]
    if accepted[0]:
        assert repr(parse(json.dumps(value))) == repr(value)


# --- hostile ---------------------------------------------------------------------------------------------


def test_a_result_that_is_written_before_leaving_does_not_count(call: Caller) -> None:
    assert call.failure("hostile:early_exit").kind == "no_result"


def test_printing_a_result_does_not_make_one(call: Caller) -> None:
    assert call("hostile:prints_results") == "mine"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        '"result"',
        "[]",
        "{}",
        '{"result": 1, "result": 2}',
        '{"result": 1, "raised": ["A", "b"]}',
        '{"result": NaN}',
        '{"result": 1e999}',
        '{"result": "\\ud800"}',
        '{"result": "\xed\xa0\x80"}',
        '{"result": ' + "[" * 300_000,
        '{"result": ' + "[" * 80 + "]" * 80 + "}",
        '{"result": ' + "9" * 10_000 + "}",
        '{"result": 1',
        '{"result": 1} {"result": 2}',
        '{"raised": "text"}',
        '{"raised": [1, 2, 3]}',
        '{"raised": {"a": 1}}',
        "\x00\x01",
    ],
)
def test_bytes_that_are_no_plain_result_are_none(package: Written, text: str) -> None:
    with pytest.raises(JobFailed) as failed:
        confine.call(f"{package.name}.hostile:raw", {"text": text})
    assert failed.value.kind == "no_result"


def test_words_from_inside_are_clipped_and_inert(package: Written) -> None:
    text = json.dumps({"raised": ["Error\n\x1b[2J" * 200, "\u202e" + "y" * 100_000]})
    with pytest.raises(JobFailed) as failed:
        confine.call(f"{package.name}.hostile:raw", {"text": text})
    assert len(str(failed.value)) < 5000
    assert not {"\n", "\x1b", "\u202e"} & set(str(failed.value))
    assert failed.value.type_name.startswith("Error⟨U+000A⟩⟨U+001B⟩[2J")


def test_a_result_beside_another_is_none(package: Written) -> None:
    with pytest.raises(JobFailed) as failed:
        confine.call(f"{package.name}.hostile:raw_and_return", {"text": '{"result": "forged"}'})
    assert failed.value.kind == "no_result"


def test_a_module_that_changes_json_changes_nothing_here(call: Caller) -> None:
    assert call.failure("hostile:patched").kind == "not_json"
    assert json.dumps([1]) == "[1]"


def test_a_body_that_closes_every_descriptor_gives_no_result(call: Caller) -> None:
    assert call.failure("hostile:closes_everything").kind == "no_result"


def test_what_a_function_forked_ends_with_it(call: Caller) -> None:
    with tempfile.TemporaryDirectory(prefix="fh-forks-") as folder:
        target = Path(folder) / "outlived"
        options = {"write": [folder]} if call.tier == "full" or os.geteuid() else {}
        assert call("hostile:forks", {"path": str(target)}, **options) == "mine"
        time.sleep(0.4)  # longer than the fork would wait for once it is alone
        assert not target.exists()


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("flood", "output"),
        ("sleeps", "deadline"),
        ("thread", "deadline"),
        ("eats", "memory"),
        ("killed", "signal"),
    ],
)
def test_how_it_was_ended_is_the_supervisors_word(call: Caller, function: str, kind: str) -> None:
    limits = {"memory_bytes": 64 << 20} if function == "eats" else {}
    timeout_s = 0.5 if kind == "deadline" else 30
    error = call.failure(f"hostile:{function}", timeout_s=timeout_s, limits=limits)
    assert error.kind == kind
    assert (error.type_name, error.text) == ("", "")


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        ("raise SystemExit('bye')", "import", "SystemExit"),
        ("1/0", "import", "ZeroDivisionError"),
        ("def f(:", "import", "SyntaxError"),
        ("import os; os._exit(0)", "no_result", ""),
        ("import os; os._exit(9)", "no_result", ""),
        ("while True: pass", "deadline", ""),
        ("f = 3", "import", "AttributeError"),
        ("", "import", "AttributeError"),
        ("class f: pass", "not_json", ""),
        ("import sys; del sys.modules[__name__]\ndef f(): return 1", "import", "KeyError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_an_error_of_the_call(source: str, kind: str, said: str) -> None:
    with written(bad=source) as package:
        with pytest.raises(JobFailed) as failed:
            confine.call(f"{package.name}.bad:f", timeout_s=0.5 if kind == "deadline" else 30)
        assert (failed.value.kind, failed.value.type_name) == (kind, said)


# --- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no colon", "does not name a function"),
        ("json:", "does not name a function"),
        ("json:a.b", "does not name a function"),
        ("../json:dumps", "does not name a function"),
        ("nowhere_at_all:f", "no module 'nowhere_at_all'"),
        ("json.nowhere:f", "no module 'json.nowhere'"),
        ("sys:exit", "is not read from a file"),
    ],
)
def test_names_that_lead_nowhere_are_refused_here(target: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        confine.call(target)


def test_a_function_of_the_standard_library_can_be_called() -> None:
    assert confine.call("textwrap:dedent", {"text": "  a"}) == "a"


def test_namespace_packages_and_foreign_files_are_refused() -> None:
    with written() as package:
        package.add({"inner/deep.py": "def f(): return 1"})
        with pytest.raises(ConfigError, match=r"is a namespace package; add its __init__\.py"):
            confine.call(f"{package.name}.inner.deep:f")
        (package.folder / "space").mkdir()
        (package.folder / "space/tools.py").write_text("def f(): return 1")
        with pytest.raises(ConfigError, match=r"__init__\.py"):
            confine.call("space.tools:f")


def test_a_module_of_the_standard_librarys_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with written() as package:
        (package.folder / "sndhdr.py").write_text("def f(): return 1")
        monkeypatch.delitem(sys.modules, "sndhdr", raising=False)
        with pytest.raises(ConfigError, match="standard library"):
            confine.call("sndhdr:f")
