"""What comes out: output, exit, limits. Both tiers, as whoever runs the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from host import require

from fumehood import confine
from fumehood.confine.plan import layers
from fumehood.confine.profile import resolve
from fumehood.errors import ConfinementError


def test_source_runs_and_says_what_was_active(tier: str) -> None:
    outcome = confine.python("print(1 + 1)", tier=tier)
    assert (outcome.stdout, outcome.stderr, outcome.exit) == (b"2\n", b"", confine.Exit("exited", 0))
    assert set(outcome.layers) == set(layers(tier, observe=False))
    assert (outcome.profile, outcome.tier) == ("python-offline", tier)


def test_a_program_runs_with_its_words(tier: str) -> None:
    outcome = confine.run(["python3", "-c", "import sys; print(sys.argv[1:])", "a b", "$HOME"], tier=tier)
    assert outcome.stdout == b"['a b', '$HOME']\n"
    shell = confine.run(["/bin/sh", "-c", "echo out; echo err >&2; exit 7"], profile="shell", tier=tier)
    assert (shell.stdout, shell.stderr, shell.exit) == (b"out\n", b"err\n", confine.Exit("exited", 7))


def test_standard_input_and_words_reach_the_source(tier: str) -> None:
    source = "import sys; print(sys.argv, sys.stdin.read()[::-1])"
    outcome = confine.python(source, argv=("x", "y"), stdin=b"abc", tier=tier)
    assert outcome.stdout == b"['-c', 'x', 'y'] cba\n"
    assert confine.python("import sys; print(repr(sys.stdin.read()))", tier=tier).stdout == b"''\n"


@pytest.mark.parametrize(
    "source",
    [
        "1/0",
        "def f():\n    raise KeyError('x')\nf()",
        "import sys; sys.exit(3)",
        "import sys; sys.exit('bye')",
        "import sys; sys.exit(None)",
        "raise SystemExit(300)",
        "raise SystemExit(2**70)",
        "raise SystemExit(-(2**63))",
        "x = (",
        "import atexit; atexit.register(print, 'end'); print('begin')",
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()",
        "import sys; sys.stdout.write('no newline')",
        "print(__name__, __builtins__ is not None)",
        "import sys; sys.stderr.write('\\udc80')",
        "from __future__ import annotations\nprint('é')",
        "file = open(1, 'w', closefd=False); file.write('nobody closes it')",
        "class C:\n    def __del__(self): print('gone')\nkept = C()",
        "class C:\n    def __del__(self): 1 / 0\nkept = C(); globals()[3] = 4; print('x')",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8'); print('x')",
        "import sys; sys.stdout = open(1, 'w', closefd=False); print('x')",
        "import io, sys; print('x'); sys.stdout = io.StringIO(); print('y')",
        "import sys; print('x'); sys.stdout = None",
        "import sys; print('x'); sys.stdout.close()",
        "import sys; print('x'); sys.stdout.flush(); sys.stdout = sys.stderr = sys.__stderr__ = 3",
        "import sys; print('x'); sys.stdout.flush(); sys.stderr = None; sys.stdout.detach()",
        "import sys; print('x'); sys.excepthook = lambda *_: sys.stderr.close() or 1 / 0; raise ValueError",
    ],
)
def test_source_behaves_as_under_the_interpreter(source: str) -> None:
    plain = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "utf8", "-c", source], capture_output=True, check=False
    )
    outcome = confine.python(source, tier="no-userns" if not _has_userns() else "full")
    assert (outcome.exit.kind, outcome.exit.code) == ("exited", plain.returncode)
    assert outcome.stdout == plain.stdout
    assert outcome.stderr.replace(b"<job>", b"<string>").splitlines()[-1:] == plain.stderr.splitlines()[-1:]
    assert b"pyjob" not in outcome.stderr


def test_the_packages_of_the_caller_are_there(tier: str) -> None:
    assert confine.python("import click; print('ok')", tier=tier).stdout == b"ok\n"
    assert confine.run(["python3", "-c", "import click; print('ok')"], tier=tier).stdout == b"ok\n"


def test_nothing_of_ours_stands_in_for_the_package(tier: str) -> None:
    source = "import sys; print([name for name in sys.modules if 'fumehood' in name])"
    assert confine.python(source, tier=tier).stdout == b"[]\n"


def test_each_job_has_an_empty_folder_of_its_own(tier: str) -> None:
    source = (
        "import os; print(os.listdir('.')); open('left', 'w').write('x'); open('/tmp/left2', 'w') "
        "if os.path.isdir('/job') else 0"
    )
    assert [confine.python(source, tier=tier).stdout for _ in range(3)] == [b"[]\n"] * 3


def test_nothing_of_one_job_is_left_in_the_next(tier: str) -> None:
    confine.python("import builtins, json; builtins.leak = 1; json.leak = 1", tier=tier)
    outcome = confine.python(
        "import builtins, json; print(hasattr(builtins, 'leak'), hasattr(json, 'leak'))", tier=tier
    )
    assert outcome.stdout == b"False False\n"


def test_the_clock_ends_it(tier: str) -> None:
    assert confine.python("import time; time.sleep(60)", timeout_s=0.2, tier=tier).exit.kind == "deadline"
    spin = confine.run(["/bin/sh", "-c", "while :; do :; done"], profile="shell", timeout_s=0.2, tier=tier)
    assert spin.exit.kind == "deadline"


def test_output_ends_at_the_cap(tier: str) -> None:
    outcome = confine.python("while True: print('x' * 4096)", limits={"output_bytes": 10_000}, tier=tier)
    assert outcome.exit.kind == "output"
    assert len(outcome.stdout) == 10_000
    exact = confine.python("print('x' * 9_999)", limits={"output_bytes": 10_000}, tier=tier)
    assert exact.exit.kind == "exited"


def test_a_large_output_under_the_cap_arrives_whole(tier: str) -> None:
    outcome = confine.python("print('y' * 900_000)", tier=tier)
    assert outcome.stdout == b"y" * 900_000 + b"\n"


def test_memory_that_grows_is_stopped(tier: str) -> None:
    grow = "kept = []\nwhile True: kept.append(bytearray(1 << 20))"
    outcome = confine.python(grow, limits={"memory_bytes": 96 << 20}, timeout_s=30, tier=tier)
    assert outcome.exit.kind == "memory" or (outcome.exit.code == 1 and b"MemoryError" in outcome.stderr)


def test_memory_of_all_processes_counts_together(tier: str) -> None:
    source = """
import os, time
for _ in range(4):
    if not os.fork():
        kept = bytearray(os.urandom(1 << 20)) * 40
        time.sleep(60)
time.sleep(60)
"""
    outcome = confine.python(source, limits={"memory_bytes": 96 << 20}, timeout_s=30, tier=tier)
    assert outcome.exit.kind == "memory"


def test_processor_time_is_limited(tier: str) -> None:
    outcome = confine.python("while True: pass", limits={"cpu_s": 1}, timeout_s=60, tier=tier)
    assert outcome.exit.kind == "cpu"


def test_a_file_ends_at_its_limit(tier: str) -> None:
    source = (
        "f = open('big', 'wb')\ntry:\n    f.write(b'x' * (3 << 20)); f.flush()\n"
        "except OSError as e: print(e.errno)"
    )
    outcome = confine.python(source, limits={"file_bytes": 1 << 20}, tier=tier)
    assert outcome.stdout == b"27\n"  # EFBIG


def test_signals_and_the_filter_are_told_apart(tier: str) -> None:
    outcome = confine.run(["/bin/sh", "-c", "kill -TERM $$"], profile="shell", tier=tier)
    assert outcome.exit == confine.Exit("signal", signal.SIGTERM)
    x32 = "import ctypes; ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39))"
    assert confine.python(x32, tier=tier).exit.kind == "filter"


def test_a_program_that_is_not_there(tier: str) -> None:
    outcome = confine.run(["no-such-program"], tier=tier)
    assert outcome.exit == confine.Exit("not_started", 2)
    assert b"no-such-program" in outcome.stderr


def test_a_program_starts_where_no_other_may(tier: str) -> None:
    source = "import os\ntry: os.execv('/bin/true', ['true'])\nexcept OSError as e: print(e.errno)"
    outcome = confine.run(["python3", "-c", source], profile="strictest", tier=tier)
    assert outcome.stdout == b"1\n"


def test_the_least_profile_has_one_process(tier: str) -> None:
    source = "import os\ntry: os.fork(); print('forked')\nexcept OSError as e: print(e.errno)"
    assert confine.python(source, profile="strictest", tier=tier).stdout == b"1\n"


def test_the_environment_is_what_was_given(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUMEHOOD_TEST_SECRET", "hunter2")
    source = "import os; print(sorted(os.environ)); print(os.environ['GIVEN'])"
    for outcome in (
        confine.python(source, env={"GIVEN": "yes"}, tier=tier),
        confine.run(["python3", "-c", source], env={"GIVEN": "yes"}, tier=tier),
    ):
        assert b"hunter2" not in outcome.stdout
        assert b"FUMEHOOD_TEST_SECRET" not in outcome.stdout
        assert outcome.stdout.endswith(b"yes\n")


def test_files_are_collected_and_links_are_not(tier: str, tmp_path: Path) -> None:
    source = """
import os
open('a.txt', 'w').write('a'); os.mkdir('d'); open('d/b.txt', 'w').write('b'); open('c.bin', 'w').write('c')
os.symlink('/etc/passwd', 'evil.txt'); os.symlink('/etc', 'folder'); os.mkfifo('pipe.txt')
"""
    outcome = confine.python(source, artifacts=["*.txt"], tier=tier)
    assert {a.path: a.body for a in outcome.artifacts} == {"a.txt": b"a", "d/b.txt": b"b"}


UNREADABLE = "import os; open('a', 'w'); os.mkdir('d'); open('d/b', 'w'); os.chmod({!r}, {})"


@pytest.mark.parametrize(
    ("change", "found"), [(("d", 0o444), ["a"]), (("a", 0), ["d/b"]), ((".", 0), []), ((".", 0o444), [])]
)
def test_files_that_a_job_made_unreadable_are_left_out(change: tuple[str, int], found: list[str]) -> None:
    """It has run: nothing that it does may look as if the host had refused."""
    outcome = confine.python(UNREADABLE.format(*change), artifacts=["*"])
    assert outcome.exit.is_success, outcome.stderr
    assert [a.path for a in outcome.artifacts] == found


def test_files_are_collected_whatever_one_file_or_all_memory_may_be(tier: str) -> None:
    source = "for i in range(12): open(f'{i:02}', 'wb').write(bytes([i]) * (1 << 20))"
    limits = {"file_bytes": 1 << 20, "memory_bytes": 32 << 20}
    outcome = confine.python(source, artifacts=["*"], limits=limits, tier=tier)
    assert [a.body for a in outcome.artifacts] == [bytes([i]) * (1 << 20) for i in range(12)]


def test_long_orders_are_no_files_of_the_job(tier: str) -> None:
    options = {"argv": ["x" * 70_000], "limits": {"file_bytes": 0}}
    outcome = confine.python("import sys; print(len(sys.argv[1]))", tier=tier, **options)
    assert outcome.stdout == b"70000\n"


@pytest.mark.parametrize(
    "options",
    [
        {"env": {"A=B": "x"}},
        {"env": {"A": "x\0y"}},
        {"timeout_s": 0},
        {"timeout_s": -1.0},
        {"tier": "best-effort"},
    ],
)
def test_nonsense_is_refused_before_anything_runs(options: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        confine.python("print(1)", **options)


def test_a_string_is_no_list_of_words() -> None:
    with pytest.raises(ValueError, match="list of words"):
        confine.run("echo hi")


def test_a_profile_without_the_interpreter_runs_no_source() -> None:
    with pytest.raises(ConfinementError, match="interpreter"):
        confine.python("print(1)", profile="shell")


# --- a folder of the host ----------------------------------------------------------------------------


def test_a_folder_of_the_host_is_shared_and_its_files_are_the_callers(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("in")
    source = "print(open('in.txt').read()); open('out.txt', 'w').write('out'); import os; os.makedirs('d/e')"
    outcome = confine.python(source, workdir=tmp_path)
    assert (outcome.stdout, outcome.stderr) == (b"in\n", b"")
    assert (tmp_path / "out.txt").read_text() == "out"
    assert (tmp_path / "out.txt").stat().st_uid == os.geteuid()
    script = tmp_path / "job.py"
    script.write_text("print('from a file')")
    assert confine.run(["python3", "job.py"], workdir=tmp_path).stdout == b"from a file\n"


def test_a_program_in_that_folder_is_started_by_its_relative_name(tier: str, tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    shutil.copy("/bin/echo", tmp_path / "tools" / "say")
    options = {"profile": "shell", "workdir": tmp_path, "tier": tier}
    by_path = confine.run(["tools/say", "1"], **options)
    by_name = confine.run(["say", "2"], env={"PATH": "/bin:tools"}, **options)
    assert (by_path.stdout, by_name.stdout) == (b"1\n", b"2\n"), (by_path, by_name)


def test_without_namespaces_a_folder_is_shared_too(tmp_path: Path) -> None:
    """As root by way of a copy: files come home as the caller's, links and set-id bits do not."""
    (tmp_path / "in.txt").write_text("in")
    (tmp_path / "kept.txt").write_text("kept")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").write_text("x")
    (tmp_path / "link").symlink_to("/etc/hostname")
    source = """
import os
print(open('in.txt').read(), os.path.basename(os.getcwd()) != '')
open('in.txt', 'a').write('+'); open('out.txt', 'w').write('out')
os.makedirs('e/f'); open('e/f/y', 'w').write('y')
open('d/x', 'w').write('changed')
"""
    outcome = confine.python(source, workdir=tmp_path, tier="no-userns")
    assert (outcome.stdout, outcome.stderr) == (b"in True\n", b"")
    found = {p.relative_to(tmp_path).as_posix(): p.read_text() for p in tmp_path.rglob("*") if p.is_file()}
    assert {k: v for k, v in found.items() if k != "link"} == {
        "in.txt": "in+",
        "kept.txt": "kept",
        "out.txt": "out",
        "e/f/y": "y",
        "d/x": "changed",
    }
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "out.txt").stat().st_uid == os.geteuid()


def test_a_copy_that_comes_home_follows_no_link(tmp_path: Path) -> None:
    require("root")
    outside, work = tmp_path / "outside", tmp_path / "work"
    outside.mkdir()
    (work / ".git").mkdir(parents=True)
    (work / "away").symlink_to(outside)
    (work / "file").symlink_to(outside / "f")
    source = """
import os
os.unlink('away'); os.mkdir('away'); open('away/planted', 'w').write('x')
os.unlink('file'); open('file', 'w').write('x')
open('.git/config', 'w').write('x'); os.symlink('/etc/shadow', 'stolen')
"""
    outcome = confine.python(source, workdir=work, tier="no-userns")
    assert outcome.exit.is_success, outcome.stderr
    assert list(outside.iterdir()) == []
    assert {path.name for path in work.iterdir()} == {".git", "away", "file"}
    assert list((work / ".git").iterdir()) == []


def test_a_folder_too_large_to_copy_is_refused(tmp_path: Path) -> None:
    require("root")
    (tmp_path / "big").write_bytes(b"x" * (2 << 20))
    with pytest.raises(ConfinementError, match="most that is copied"):
        confine.python("1", workdir=tmp_path, tier="no-userns", limits={"disk_bytes": 1 << 20})


async def test_a_copy_comes_home_for_those_who_await(tmp_path: Path) -> None:
    await confine.apython("open('out', 'w').write('x')", workdir=tmp_path, tier="no-userns")
    assert (tmp_path / "out").read_text() == "x"


def test_git_inside_the_folder_stays_as_it_is(tmp_path: Path) -> None:
    hooks = tmp_path / ".git/hooks"
    hooks.mkdir(parents=True)
    (tmp_path / ".git/config").write_text("[core]\n")
    source = """
import os
for attempt in (
    lambda: open('.git/hooks/pre-commit', 'w'),
    lambda: open('.git/config', 'a').write('x'),
    lambda: os.rename('.git', 'moved'),
    lambda: os.unlink('.git/config'),
    lambda: open('.git/commondir', 'w'),
):
    try: attempt(); print('done')
    except OSError: print('refused')
"""
    outcome = confine.python(source, workdir=tmp_path)
    assert outcome.stdout == b"refused\n" * 5
    assert (tmp_path / ".git/config").read_text() == "[core]\n"
    assert list(hooks.iterdir()) == []


def test_set_id_files_cannot_be_left_in_the_folder(tmp_path: Path) -> None:
    source = "import os\nopen('x', 'w')\ntry: os.chmod('x', 0o4755)\nexcept OSError as e: print('refused')"
    assert confine.python(source, workdir=tmp_path).stdout == b"refused\n"
    assert (tmp_path / "x").stat().st_mode & 0o6000 == 0


def test_a_folder_that_would_open_the_guard_is_refused(tmp_path: Path) -> None:
    ledger = tmp_path / "state/ledger.db"
    ledger.parent.mkdir()
    ledger.write_text("")
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "state", link):
        with pytest.raises(ConfinementError, match="belongs to the guard"):
            confine.python("1", workdir=folder, forbidden_paths=[str(ledger)])


@pytest.mark.parametrize("folder", ["/", "/etc", "/usr/lib", "/proc", "/nonexistent"])
def test_a_folder_of_the_system_is_refused(folder: str) -> None:
    with pytest.raises(ConfinementError):
        confine.python("1", workdir=folder)


def test_further_folders_are_readable_and_only_that(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("data")
    source = f"""
print(open({str(tmp_path / "data")!r}).read())
try: open({str(tmp_path / "data")!r}, 'a'); print('done')
except OSError: print('refused')
"""
    assert confine.python(source, read=[str(tmp_path)]).stdout == b"data\nrefused\n"


def _has_userns() -> bool:
    from host import PARTS

    return bool(PARTS["userns"]())


def test_an_ordinary_user_has_both_tiers(
    as_ordinary_user: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, tier: str
) -> None:
    folder = tmp_path / "w"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    for parent in folder.parents:
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)
    script = """
import os, sys
from fumehood import confine
tier, folder = sys.argv[1:]
o = confine.python("import os; print(os.getuid()); open('x','w').write('y')", tier=tier, workdir=folder)
print(o.exit.kind, o.exit.code, o.stderr.decode(), os.stat(folder + '/x').st_uid == os.getuid())
o = confine.run(["python3", "-c", "print(6 * 7)"], tier=tier)
print(o.stdout.decode().strip(), o.stderr.decode(), len(o.layers))
"""
    done = as_ordinary_user(script, tier, str(folder))
    assert done.stderr == ""
    assert done.stdout.splitlines()[0].split() == ["exited", "0", "True"]
    assert done.stdout.splitlines()[1].split()[0] == "42"


def test_private_folders_share_one_limit(tier: str) -> None:
    source = """
import time
def fill(path):
    with open(path, 'wb') as file:
        for _ in range(40): file.write(b'x' * (1 << 20)); file.flush()
for path in ('a', '/tmp/b' if __import__('os').path.isdir('/job') else 'b'):
    try: fill(path)
    except OSError as error: print(error.errno)
time.sleep(0 if __import__("os").path.isdir("/job") else 3)
"""
    outcome = confine.python(source, limits={"disk_bytes": 48 << 20}, timeout_s=30, tier=tier)
    if tier == "full":
        assert outcome.stdout == b"28\n"  # ENOSPC, in the second file
    else:
        assert outcome.exit.kind == "disk"


@pytest.mark.parametrize("profile", ["shell", "strictest"])
def test_a_program_that_cannot_be_reached_is_not_started(profile: str, tmp_path: Path) -> None:
    """Before the process gives it up, it could have been: it is root there."""
    require("userns")
    (tmp_path / "tools").mkdir()
    shutil.copy("/bin/echo", tmp_path / "tools" / "say")
    (tmp_path / "tools").chmod(0)
    try:
        outcome = confine.run(["tools/say"], profile=profile, workdir=tmp_path)
    finally:
        (tmp_path / "tools").chmod(0o700)
    assert outcome.exit == confine.Exit("not_started", 13)
    assert outcome.stderr == b"fumehood: cannot start 'tools/say': Permission denied\n"


def test_a_profile_whose_environment_was_changed_is_another_one() -> None:
    env = {"WORD": "one"}
    profile = resolve("python-offline").model_copy(update={"env": env})
    source = "import os; print(os.environ['WORD'])"
    assert confine.python(source, profile=profile).stdout == b"one\n"
    env["WORD"] = "two"
    assert confine.python(source, profile=profile).stdout == b"two\n"
