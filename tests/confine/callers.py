"""Applications of every kind that call for a job: what each does before, and how it calls.

A script says what came of it as one JSON object over a pipe of its own: standard streams may be closed. Then
it names every process below it, so that the test can see that none outlives it.
"""

from __future__ import annotations

HEAD = """
import json, os, resource, signal, sys, tempfile, threading, time
SAY, TIER, FOLDER = int(os.environ.pop("SAY")), sys.argv[1], sys.argv[2]
def say(**fields):
    os.write(SAY, json.dumps(fields).encode())
"""

CALL = """
from fumehood import confine
from fumehood.confine import Spec, procs
from fumehood.errors import ConfinementError
def one(n=42):
    return confine.python(f"print({n})", tier=TIER).stdout.decode().strip()
def end(good, **more):
    say(good=good, below=procs.descendants(os.getpid()), **more)
"""

#: After this the caller does nothing special: two jobs, and how they ended.
TWO_JOBS = """
try:
    source = confine.python("import sys; print(6 * 7, sys.stdin.read() == '')", tier=TIER)
    program = confine.run(["/bin/sh", "-c", "echo $((6 * 7)); kill -TERM $$"], profile="shell", tier=TIER)
except ConfinementError as error:
    end(False, layer=error.layer, text=str(error))
except BaseException as error:
    end(False, raised=repr(error))
else:
    outcomes = [[o.exit.kind, o.exit.code, o.stdout.decode(), o.stderr.decode()] for o in (source, program)]
    end(outcomes == [["exited", 0, "42 True\\n", ""], ["signal", 15, "42\\n", ""]], outcomes=outcomes)
"""

#: What an application has done before it first calls. The jobs work as ever.
BEFORE = {
    "nothing": "",
    "SIGCHLD is ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "a handler reaps every child": """
def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: pass
signal.signal(signal.SIGCHLD, reap)
""",
    "every signal is blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "every signal is ignored": """
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
""",
    "a timer interrupts every call": """
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
""",
    "no standard stream is open": "for fd in range(3): os.close(fd)",
    "standard input is closed": "os.close(0)",
    "standard output is closed": "os.close(1)",
    "the streams of Python are gone": "sys.stdin = sys.stdout = sys.stderr = None",
    "its folder is deleted": "d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)",
    "its umask lets nobody in": "os.umask(0o777)",
    "its umask lets everybody in": "os.umask(0)",
    "few open files": "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))",
    "cores are on": "resource.setrlimit(resource.RLIMIT_CORE, (-1, -1)) if os.getuid() == 0 else None",
    "a small stack": "resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))",
    "no PATH": "del os.environ['PATH']",
    "a PATH that starts here": """
os.chdir(FOLDER)
for name in ("python3", "sh"):
    with open(name, "w") as file: file.write("#!/bin/sh\\ntouch " + FOLDER + "/ran\\n")
    os.chmod(name, 0o755)
os.environ["PATH"] = ".:" + FOLDER
""",
    "a TMPDIR that is not there": "os.environ['TMPDIR'] = '/nonexistent'",
    "its interpreter by a relative path": """
os.chdir(os.path.dirname(sys.executable))
sys.executable = "./" + os.path.basename(sys.executable)
""",
    "not dumpable": "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)",
    "no new privileges": "import ctypes; ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)",
    "a subreaper": "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)",
    "a leader of its session": "os.setsid()",
    "traced": "sys.settrace(lambda *_: None)",
}

#: What an application has done that leaves no room for a job: refused by name.
REFUSED = {
    "no room for a process": ("supervisor", "resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))"),
    "no room for a file's size": ("supervisor", "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"),
    "no interpreter that it knows": ("supervisor", "sys.executable = ''"),
    "no number for an open file": (
        "supervisor",
        """
one, two = confine.run, procs  # loaded while files can still be read
import fumehood.confine.prepare, fumehood.log
kept = []
try:
    while True: kept.append(os.open("/dev/null", os.O_RDONLY))
except OSError: pass
os.close(kept.pop())  # for the folder of our own children
""",
    ),
}

#: Other ways to call.
WAYS = {
    "from eight threads that end while their jobs run": """
jobs = []
def begin(n):
    source = f"import time; time.sleep(0.3); print({n})"
    jobs.append((n, confine.start(Spec(source=source, tier=TIER))))
threads = [threading.Thread(target=begin, args=(n,)) for n in range(8)]
for t in threads: t.start()
for t in threads: t.join()
answers = [(f"{n}\\n".encode(), job.wait().stdout) for n, job in jobs]
end(len(answers) == 8 and all(wanted == got for wanted, got in answers), answers=repr(answers))
""",
    "from event loops one after the other, and one in a thread": """
import asyncio
async def ask():
    jobs = (confine.apython("print(1)", tier=TIER) for _ in range(3))
    return [outcome.stdout for outcome in await asyncio.gather(*jobs)]
answers = [asyncio.run(ask()), asyncio.run(ask())]
thread = threading.Thread(target=lambda: answers.append(asyncio.run(ask())))
thread.start()
thread.join()
end(answers == [[b"1\\n"] * 3] * 3, answers=repr(answers))
""",
    "after a fork with a job that runs, the child ending in every way": """
job = confine.start(Spec(source="import time; time.sleep(0.7); print('parent')", tier=TIER))
def child(ending):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        SAY_NOT = os.write(write, one(7).encode())
        ending()
    os.close(write)
    with os.fdopen(read) as file:
        said = file.read()
    return said, os.waitpid(pid, 0)[1]
answers = [child(lambda: os._exit(0)), child(lambda: (confine.close(), os._exit(0)))]
answers += [child(lambda: os.kill(os.getpid(), signal.SIGKILL))]
end(answers == [("7", 0), ("7", 0), ("7", 9)] and job.wait().stdout == b"parent\\n" and one() == "42",
    answers=answers)
""",
    "after a fork, when the child asks for its parent's job": """
job = confine.start(Spec(source="import time; time.sleep(0.3); print('parent')", tier=TIER))
read, write = os.pipe()
pid = os.fork()
if not pid:
    try:
        job.wait(10)
        os.write(write, b"taken")
    except RuntimeError:
        os.write(write, b"refused")
    os._exit(0)
os.close(write)
os.waitpid(pid, 0)
with os.fdopen(read) as file:
    said = file.read()
out = job.wait()
end(said == "refused" and out.stdout == b"parent\\n", said=said, out=out.exit.kind)
""",
    "from a pool of forked processes": """
import multiprocessing
job = confine.start(Spec(source="import time; time.sleep(0.7); print('parent')", tier=TIER))
with multiprocessing.get_context("fork").Pool(4) as pool:
    answers = pool.map(one, range(8))
end(answers == [str(n) for n in range(8)] and job.wait().stdout == b"parent\\n", answers=answers)
""",
    "after a fork while another thread was in the middle of a call": """
from fumehood.confine.api import _CLIENT
one()
held, done = threading.Event(), threading.Event()
def hold():
    with _CLIENT._lock:
        held.set()
        done.wait()
threading.Thread(target=hold).start()
held.wait()
read, write = os.pipe()
pid = os.fork()
if not pid:
    signal.alarm(20)
    os.write(write, one(7).encode())
    confine.close()
    os._exit(0)
os.close(write)
said = os.read(read, 10)
done.set()
os.waitpid(pid, 0)
end(said == b"7", said=said.decode())
""",
    "as a daemon that forked twice": """
one()
read, write = os.pipe()
pid = os.fork()
if not pid:
    os.setsid()
    if not os.fork():
        os.write(write, one().encode())
        sys.exit(0)
    os._exit(0)
os.close(write)
os.waitpid(pid, 0)
with os.fdopen(read) as file:
    said = file.read()
end(said == "42", said=said)
""",
    "when the interpreter ends": """
import atexit
atexit.register(lambda: end(one() == "42"))
""",
    "in a thread that the interpreter does not wait for": """
sleep = lambda: confine.run(["sleep", "600"], profile="shell", tier=TIER, timeout_s=600)
threading.Thread(target=sleep, daemon=True).start()
end_at = time.monotonic() + 20
while time.monotonic() < end_at and len(procs.descendants(os.getpid())) < 4: time.sleep(0.02)
end(len(procs.descendants(os.getpid())) >= 4)
""",
    "and then becomes another program": """
answer = one()
end(answer == "42")
os.execv("/bin/true", ["true"])
""",
    "in a signal handler while another job runs": """
answers = []
signal.signal(signal.SIGALRM, lambda *_: answers.append(one()))
job = confine.start(Spec(source="import time; time.sleep(0.4); print(5)", tier=TIER))
signal.setitimer(signal.ITIMER_REAL, 0.1)
out = job.wait().stdout
end_at = time.monotonic() + 20
while time.monotonic() < end_at and not answers: time.sleep(0.01)
end(answers == ["42"] and out == b"5\\n", answers=answers, out=out.decode())
""",
    "with secrets in its environment and in descriptors that are inherited": """
os.environ["SECRET"] = "hunter2"
secret = os.open(FOLDER + "/secret", os.O_RDWR | os.O_CREAT)
os.set_inheritable(secret, True)
jobs = [confine.start(Spec(source="import time; time.sleep(0.5)", tier=TIER)),
        confine.start(Spec(argv=["sleep", "0.5"], profile="shell", tier=TIER))]
time.sleep(0.3)
found, looked = [], 0
for pid in procs.descendants(os.getpid()):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file: environ = file.read()
        files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except (PermissionError, FileNotFoundError, ProcessLookupError):  # not dumpable: only root may look
        continue
    looked += 1
    if b"hunter2" in environ or FOLDER + "/secret" in files: found.append(pid)
for job in jobs: job.wait()
end(not found and (looked or os.getuid() != 0), found=found, looked=looked)
""",
}

#: How the interpreter itself may have been started.
FLAGS = ("-O", "-OO", "-I", "-E", "-S", "-B", "-P", "-Xdev", "-Xutf8=0", "-Werror", "-bb")
