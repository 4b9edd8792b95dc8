"""A host that lacks something, made by a filter over the caller: what comes of a job there, from outside.

`HARNESS` runs in a process of its own. For each case it forks a child that puts a filter over itself, as a
surrounding sandbox would (a filter is for life, and everything below inherits it), and asks for one job that
writes a file into a folder of the host. The harness then says what the child was told, whether the file is
there, who survived, and what was left in the folder for temporary files.
"""

from __future__ import annotations

HARNESS = """
import ctypes, json, os, select, signal, sys, time
from fumehood import confine
from fumehood.cli import main, sandbox  # loaded once, for all cases
from fumehood.confine import diagnosis, doctor, prepare, procs, syscalls
from fumehood.confine.seccomp import Answer, Match, Rule, compile_rules
from fumehood.confine.probes_process import _program
from fumehood.errors import ConfinementError

WORKDIR, PATIENCE_S = sys.argv[2], 20
MARKER = WORKDIR + "/ran"
syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)

def resolve(name):
    import pyseccomp
    number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
    return number if number >= 0 else syscalls._NUMBERS[syscalls.machine()].get(name, 434)  # pidfd_open

def rules(case):
    for call in case["calls"]:
        name, *where = call.split()
        matches = tuple(Match(int(i), int(v, 0)) for i, v in (word.split("=") for word in where))
        yield Rule(name, Answer[case["answer"]], matches)

def attempt(case):
    if case["calls"]:
        if case["answer"] == "KILL":
            (name,) = case["calls"]
            program = _program(resolve(name), 0x80000000)
        else:
            program = compile_rules(tuple(rules(case)), default=Answer.ALLOW)
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.load_filter(program, listener=case["answer"] == "NOTIFY")
    options = {"tier": case["tier"], "profile": case["profile"], "workdir": WORKDIR, "timeout_s": 10}
    try:
        if case["how"] == "doctor":
            return diagnosed()
        if case["how"] == "command":
            return commanded(case)
        if case["how"] == "source":
            outcome = confine.python("open('ran', 'w')", **options)
        else:
            outcome = confine.run(["python3", "-I", "-S", "-c", "open('ran', 'w')"], **options)
    except ConfinementError as error:
        return {"layer": error.layer, "remedy": error.remedy, "text": str(error)}
    except BaseException as error:
        return {"raised": type(error).__name__, "text": str(error)}
    said = outcome.stderr.decode(errors="replace")
    return {"exit": [outcome.exit.kind, outcome.exit.code], "stderr": said, "layers": outcome.layers}

def diagnosed():
    found = diagnosis.diagnose(doctor.gather())
    return {tier: [f.layer for f in findings if f.state == "missing"] for tier, findings in found.items()}

def commanded(case):
    words = ["sandbox", "run", "--tier", case["tier"], "--profile", case["profile"], "--workdir", WORKDIR]
    fd = os.open(os.devnull, os.O_RDWR)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    try:
        main([*words, "--", "python3", "-I", "-S", "-c", "open('ran', 'w')"])
    except SystemExit as ending:
        return {"status": ending.code}

def temporary():
    found = {e.name for e in os.scandir("/tmp") if e.name.startswith("fumehood")}
    return {name for name in found if owner(name) == os.getuid()}

def owner(name):
    try:
        return os.stat("/tmp/" + name).st_uid
    except FileNotFoundError:
        return -1

def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass

def gone(find, seconds=10.0):  # others of this user may be at work beside us
    end = time.monotonic() + seconds
    while (left := find()) and time.monotonic() < end:
        time.sleep(0.01)
        reap()
    return left

def run(case):
    before = temporary()
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        os.write(write, json.dumps(attempt(case)).encode())
        if case.get("closes", True):
            confine.close()
        os._exit(0)
    os.close(write)
    is_ready = bool(select.select([read], [], [], PATIENCE_S)[0])
    body = os.read(read, 65536) if is_ready else b""
    os.close(read)
    found = json.loads(body) if body else {"hung": not is_ready, "text": "no answer"}
    if not body:
        os.kill(pid, signal.SIGKILL)
    new = temporary() - before
    found["survivors"] = gone(lambda: procs.descendants(os.getpid()))
    procs.kill_all(found["survivors"])
    found["left"] = sorted(gone(lambda: new & temporary()))
    found["ran"] = os.path.exists(MARKER)
    if found["ran"]:
        os.unlink(MARKER)
    return found

for case in json.loads(sys.argv[1]):
    print(json.dumps(run(case)), flush=True)
"""
