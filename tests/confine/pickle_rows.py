"""What the test pickles of two published scanners try to do: a row each.

`P` is picklescan, `F` fickling; `own` are ours. Where a pickle of theirs reads a secret or asks a server
elsewhere, ours makes a file or asks a server of this machine.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib

from confine import pickle_tricks as tricks
from confine.pickles import Arguments, Row, calls, inst, line, obj, old_name, string, value, whole

SHELL: Arguments = lambda a: (a.shell,)  # noqa: E731
CODE: Arguments = lambda a: (a.code,)  # noqa: E731
CODE_AND_NAMES: Arguments = lambda a: (a.code, {})  # noqa: E731
WORDS: Arguments = lambda a: (a.shell.split(),)  # noqa: E731
ADDRESS: Arguments = lambda a: (("127.0.0.1", a.port),)  # noqa: E731
URL: Arguments = lambda a: (f"http://127.0.0.1:{a.port}/",)  # noqa: E731

ROWS = (
    Row("os.system by STACK_GLOBAL", "F", "program", calls("os", "system", SHELL)),
    Row(
        "posix.system by GLOBAL",
        "P",
        "program",
        lambda a: whole(old_name("posix", "system") + b"(" + line(a.shell) + b"tR", protocol=0),
    ),
    Row("posix.system by STACK_GLOBAL", "P", "program", calls("posix", "system", SHELL)),
    Row(
        "STACK_GLOBAL of STRINGs",
        "P",
        "program",
        lambda a: whole(string("os") + string("system") + b"\x93" + string(a.shell) + b"\x85R"),
    ),
    Row("eval, protocol 4", "P", "write", calls("builtins", "eval", CODE)),
    Row(
        "eval of Python 2",
        "P",
        "write",
        lambda a: whole(old_name("__builtin__", "eval") + b"(" + line(a.code) + b"tR", protocol=0),
    ),
    Row(
        "exec by INST", "P", "write", lambda a: whole(inst("__builtin__", "exec", string(a.code)), protocol=0)
    ),
    Row("globals, compile, eval", "P", "write", tricks.compiled),
    Row("subprocess.run", "P", "program", calls("subprocess", "run", WORDS)),
    Row("subprocess.Popen", "P", "program", calls("subprocess", "Popen", WORDS)),
    Row(
        "socket.create_connection",
        "P",
        "connect",
        calls("socket", "create_connection", ADDRESS),
    ),
    Row("http.client", "P", "connect", tricks.asks_by_http),
    Row(
        "urllib.request.urlopen",
        "P",
        "connect",
        calls("urllib.request", "urlopen", URL),
    ),
    Row(
        "requests.api.get",
        "P",
        "connect",
        calls("requests.api", "get", URL),
        needs="requests",
    ),
    Row(
        "ssl.get_server_certificate",
        "P",
        "connect",
        calls("ssl", "get_server_certificate", ADDRESS),
    ),
    Row("smtplib by OBJ, discarded", "F", "connect", tricks.discarded_object),
    Row("ftplib", "F", "connect", tricks.connects),
    Row("poplib", "F", "connect", tricks.mail("poplib", "POP3")),
    Row("imaplib", "F", "connect", tricks.mail("imaplib", "IMAP4")),
    Row("telnetlib", "F", "connect", tricks.mail("telnetlib", "Telnet"), needs="telnetlib"),
    Row("nntplib", "F", "connect", tricks.mail("nntplib", "NNTP"), needs="nntplib"),
    Row("imaplib through a command", "P", "program", calls("imaplib", "IMAP4_stream", SHELL)),
    Row("attrgetter and __import__", "P", "program", tricks.attrgetter),
    Row("_operator.attrgetter by memo", "P", "program", tricks.operator("attrgetter", called_with=False)),
    Row("_operator.methodcaller by memo", "P", "program", tricks.operator("methodcaller", called_with=True)),
    Row("methodcaller and pydoc.locate", "P", "program", tricks.methodcaller),
    Row("pydoc.locate", "F", "program", tricks.found("pydoc", "locate", "os.system")),
    Row("pkgutil.resolve_name", "P", "program", tricks.found("pkgutil", "resolve_name", "os:system")),
    Row("pydoc.pipepager", "P", "program", calls("pydoc", "pipepager", lambda a: ("", a.shell))),
    Row("runpy._run_code", "P", "write", calls("runpy", "_run_code", CODE_AND_NAMES)),
    Row("cProfile.run", "P", "write", calls("cProfile", "run", CODE)),
    Row("cProfile.runctx", "P", "write", calls("cProfile", "runctx", lambda a: (a.code, {}, {}))),
    Row("profile.run", "P", "write", calls("profile", "run", CODE)),
    Row("Profile.run", "P", "write", tricks.on_new("profile", "Profile", "run")),
    Row("Profile.runctx", "P", "write", tricks.on_new("profile", "Profile", "runctx", {}, {})),
    Row("Trace.run", "P", "write", tricks.on_new("trace", "Trace", "run")),
    Row("Trace.runctx", "P", "write", tricks.on_new("trace", "Trace", "runctx", {}, {})),
    Row("Bdb.run with a built state", "P", "program", tricks.debugger),
    Row("InteractiveInterpreter.runcode", "P", "write", tricks.interpreter("runcode")),
    Row("InteractiveInterpreter.runsource", "F", "write", tricks.interpreter("runsource")),
    Row("timeit.timeit, one word twice", "P", "write", tricks.same_word),
    Row("doctest.debug_script", "P", "write", calls("doctest", "debug_script", lambda a: (a.code, True))),
    Row("libc by ctypes", "F", "program", tricks.libc),
    Row("pty.spawn", "P", "program", calls("pty", "spawn", lambda a: (["/bin/sh", "-c", a.shell],))),
    Row(
        "pty.spawn by OBJ",
        "F",
        "program",
        lambda a: whole(obj(old_name("pty", "spawn"), value(a.shell.split())), protocol=0),
    ),
    Row(
        "spawnv_passfds",
        "F",
        "program",
        calls(
            "multiprocessing.util",
            "spawnv_passfds",
            lambda a: (b"/bin/sh", [b"/bin/sh", b"-c", a.shell.encode()], ()),
        ),
    ),
    Row("importlib and getattr", "F", "program", tricks.imported),
    Row("__import__ and getattr by memo", "F", "program", tricks.attributes_by_memo),
    Row("marshal and FunctionType", "F", "write", tricks.marshalled),
    Row("CodeType and FunctionType", "P", "write", tricks.code_object),
    Row("partial with another state", "P", "program", tricks.partial),
    Row(
        "asyncio's subprocess transport",
        "P",
        "program",
        calls(
            "asyncio.unix_events",
            "_UnixSubprocessTransport._start",
            lambda a: ({}, a.shell, True, None, None, None, 0),
        ),
    ),
    Row(
        "uuid._get_command_stdout",
        "P",
        "program",
        calls("uuid", "_get_command_stdout", lambda a: ("touch", a.canary)),
    ),
    Row(
        "_aix_support",
        "P",
        "program",
        calls("_aix_support", "_read_cmd_output", SHELL),
        needs="_aix_support:_read_cmd_output",
    ),
    Row(
        "_osx_support._read_output",
        "P",
        "program",
        calls("_osx_support", "_read_output", SHELL),
    ),
    Row(
        "_osx_support._find_build_tool",
        "F",
        "program",
        calls("_osx_support", "_find_build_tool", lambda a: (f"x; {a.shell} #",)),
    ),
    Row(
        "script_helper of CPython's tests",
        "P",
        "program",
        calls("test.support.script_helper", "assert_python_ok", lambda a: ("-c", a.code)),
        needs="test.support.script_helper",
    ),
    Row("logging.FileHandler", "P", "write", calls("logging", "FileHandler", lambda a: (a.canary,))),
    Row("_io.FileIO", "P", "write", calls("_io", "FileIO", lambda a: (a.canary, "w"))),
    Row(
        "distutils write_file",
        "P",
        "write",
        calls("distutils.file_util", "write_file", lambda a: (a.canary, ["x"])),
        needs="distutils",
    ),
    Row(
        "numpy.f2py getlincoef",
        "P",
        "write",
        calls("numpy.f2py.crackfortran", "getlincoef", CODE_AND_NAMES),
        needs="numpy",
    ),
    Row(
        "numpy runstring",
        "P",
        "write",
        calls("numpy.testing._private.utils", "runstring", CODE_AND_NAMES),
        needs="numpy",
    ),
    Row("lib2to3 label", "P", "write", tricks.grammar_label, needs="lib2to3"),
    Row("lib2to3 Grammar.loads", "P", "program", tricks.grammar, needs="lib2to3"),
    Row("pickle.loads of encoded text", "P", "program", tricks.nested_as_text),
    Row("_pickle.loads of bytes", "P", "program", tricks.nested),
    Row("decoys dropped from the stack", "P", "program", tricks.decoyed),
    Row("words of a module", "P", "write", tricks.words_of_a_module),
    Row("dotted name in another module", "F", "program", calls("pathlib", "os.system", SHELL)),
    Row("then a memo that is missing", "P", "program", tricks.then_a_missing_memo),
    Row("then a number for a name", "P", "program", tricks.then_a_number_for_a_name),
    Row("second pickle of the stream", "P", "program", tricks.second_in_the_stream),
    Row(
        "pip main",
        "P",
        "write",
        calls("pip", "main", lambda a: (["list", "--isolated", "-q", "--log", a.canary],)),
        needs="pip",
    ),
    Row(
        "venv.create",
        "P",
        "write",
        calls("venv", "create", lambda a: (a.canary, False, False, True, False, "$(x)")),
    ),
    Row("PyTorch of old: four pickles before it", "P", "program", tricks.torch_of_old),
    Row("PyTorch's archive", "P", "write", tricks.zipped("archive/data.pkl")),
    Row("PyTorch's archive, no folder", "F", "write", tricks.zipped("data.pkl")),
    Row("numpy's object array", "P", "write", tricks.numpy_objects),
    Row("joblib with gzip", "own", "program", tricks.packed(gzip.compress)),
    Row("joblib with zlib", "own", "program", tricks.packed(zlib.compress)),
    Row("joblib with bz2", "own", "program", tricks.packed(bz2.compress)),
    Row("joblib with xz", "own", "program", tricks.packed(lzma.compress)),
    Row("extension registry", "own", "program", tricks.by_extension),
    Row("webbrowser", "P", "program", tricks.browser),
)
