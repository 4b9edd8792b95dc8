"""Ways out, each tried for real. What happened is judged from outside; each works without confinement."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fumehood import confine
from fumehood.confine.profile import named

HEAD = """
import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def raw(number, *words):
    words = [ctypes.c_long(w) if isinstance(w, int) else w for w in words]
    if libc.syscall(ctypes.c_long(number), *words) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def attempt(call):
    try:
        call()
    except OSError as error:
        print(errno.errorcode[error.errno])
    else:
        print("done")
"""


def inside(body: str, tier: str, **options: object) -> list[str]:
    outcome = confine.python(HEAD + body, tier=tier, **options)
    assert outcome.exit.kind == "exited", (outcome.exit, outcome.stderr)
    assert outcome.stderr == b""
    return outcome.stdout.decode().split()


def outside(body: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", HEAD + body], capture_output=True, text=True, check=False)
    return done.stdout.split()


def test_files_of_the_host_cannot_be_read(tier: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o644)
    body = f"attempt(lambda: print(open({str(secret)!r}).read()))\nattempt(lambda: open('/etc/shadow'))"
    assert outside(body)[0] == "s3cret"
    assert set(inside(body, tier)) <= {"ENOENT", "EACCES"}


def test_nothing_is_written_outside(tier: str, tmp_path: Path) -> None:
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    for parent in open_folder.parents:
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)
    body = f"attempt(lambda: open({str(open_folder / 'x')!r}, 'w'))\nattempt(lambda: os.mkdir('/usr/x'))"
    assert inside(body, tier)[0] in ("ENOENT", "EACCES")
    assert list(open_folder.iterdir()) == []
    assert outside(body)[0] == "done"
    assert (open_folder / "x").exists()


def test_a_link_out_of_the_folder_leads_nowhere(tmp_path: Path) -> None:
    work, target = tmp_path / "work", tmp_path / "target"
    work.mkdir()
    target.write_text("kept")
    (work / "link").symlink_to(target)
    body = "attempt(lambda: open('link', 'w').write('x'))\nattempt(lambda: open('../target', 'w'))"
    inside(body, "full", workdir=work)
    assert target.read_text() == "kept"


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A server on loopback, and what it received."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)

        def serve() -> None:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                return
            with connection:
                received.append(connection.recv(100))

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1], received
        with socket.create_connection(server.getsockname()) as last:
            last.sendall(b"end of test")
        thread.join()


def test_there_is_no_network(tier: str, listener: tuple[int, list[bytes]]) -> None:
    port, received = listener
    body = f"""
def tcp(): s = socket.socket(); s.connect(('127.0.0.1', {port})); s.sendall(b'leak')
def udp(): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'leak', ('127.0.0.1', {port}))
def mptcp(): socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(('127.0.0.1', {port}))
def fastopen(): socket.socket().sendto(b'leak', 0x20000000, ('127.0.0.1', {port}))
def listen(): socket.socket().listen()
def unix(): socket.socket(socket.AF_UNIX).connect('\\0abstract')
def netlink(): socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
def vsock(): socket.socket(40, socket.SOCK_STREAM)
for way in (tcp, udp, mptcp, fastopen, listen, unix, netlink, vsock): attempt(way)
"""
    assert inside(body, tier) == ["EPERM"] * 8
    assert received == []


def test_datagram_pairs_cannot_be_pointed_elsewhere(tier: str) -> None:
    body = "attempt(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))\nattempt(socket.socketpair)"
    assert inside(body, tier) == ["ENOSYS", "done"]
    assert outside(body) == ["done", "done"]


def test_processes_outside_are_neither_signalled_nor_traced(tier: str) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as victim:
        if os.geteuid() == 0:
            pass  # the job is another user as well
        body = f"""
attempt(lambda: os.kill({victim.pid}, 0))
attempt(lambda: os.kill(os.getppid() or 1, 9))
attempt(lambda: raw(101, 16, {victim.pid}, 0, 0))
attempt(lambda: open('/proc/{victim.pid}/mem', 'r+b'))
attempt(lambda: open('/proc/{victim.pid}/environ'))
attempt(lambda: raw(310, {victim.pid}, 0, 0, 0, 0, 0))
"""
        answers = inside(body, tier)
        assert "done" not in answers[:1] + answers[2:]
        assert victim.poll() is None
        victim.kill()


def test_kernel_doors_are_shut(tier: str) -> None:
    """Numbers of x86-64; each call names nothing that exists, so that it would fail harmlessly anyway."""
    doors = {
        "mount": (165, 0, 0, 0, 0, 0),
        "unshare": (272, 0x10000000),
        "setns": (308, -1, 0),
        "io_uring_setup": (425, 0, 0),
        "bpf": (321, 0, 0, 0),
        "keyctl": (250, 0, 0),
        "userfaultfd": (323, 0),
        "perf_event_open": (298, 0, 0, -1, -1, 0),
        "open_by_handle_at": (304, -1, 0, 0),
        "memfd_create": (319, 0, 0),
        "pidfd_getfd": (438, -1, 0, 0),
        "seccomp": (317, 0, 0, 0),
        "fsopen": (430, 0, 0),
        "add_key": (248, 0, 0, 0, 0, 0),
    }
    body = "\n".join(f"attempt(lambda: raw{words})" for words in doors.values())
    assert dict(zip(doors, inside(body, tier), strict=True)) == dict.fromkeys(doors, "EPERM")


def test_namespaces_cannot_be_made_by_clone_either(tier: str) -> None:
    body = "attempt(lambda: raw(56, 0x10000000 | 17, 0, 0, 0, 0))\nattempt(lambda: raw(435, 0, 0))"
    assert inside(body, tier) == ["ENOSYS", "ENOSYS"]


@pytest.mark.parametrize("profile", ["strictest", "model-loader"])
def test_no_other_program_starts_by_an_absolute_path_beside_the_number(tier: str, profile: str) -> None:
    """The kernel ignores execveat's descriptor where the path is absolute, and no filter sees the path."""
    body = """
words = (ctypes.c_char_p * 4)(b"sh", b"-c", b"echo another program", None)
attempt(lambda: raw(322, 1023, ctypes.c_char_p(b"/bin/sh"), words, (ctypes.c_char_p * 1)(), 0x1000))
"""
    outcome = confine.run(["python3", "-c", HEAD + body], profile=profile, tier=tier)
    assert (outcome.exit.is_success, outcome.stdout) == (True, b"EPERM\n")
    assert ("exec", "/bin/sh", "refused") in [(a.operation, a.target, a.verdict) for a in outcome.refused]
    assert inside(body, tier, profile=profile) == ["EPERM"]


def test_the_terminal_cannot_be_typed_into(tier: str) -> None:
    body = """
import fcntl
attempt(lambda: fcntl.ioctl(0, 0x5412, b'x'))
attempt(lambda: fcntl.ioctl(0, 0x541C, b'x'))
attempt(lambda: raw(16, 0, 0x5412 | 1 << 40, b'x'))
"""
    assert inside(body, tier) == ["ENOSYS"] * 3


def test_int_0x80_kills(tier: str) -> None:
    body = """
import mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # mov eax, 20 (getpid); int 0x80; ret
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
print("survived")
"""
    may_map_both = named("python-offline").model_copy(update={"jit": True})
    outcome = confine.python(HEAD + body, tier=tier, profile=may_map_both)
    assert outcome.exit.kind == "filter"
    assert b"survived" not in outcome.stdout


def test_no_privilege_is_left(tier: str) -> None:
    body = """
attempt(lambda: os.setuid(0))
attempt(lambda: os.chroot('/'))
attempt(lambda: os.mknod('dev', 0o20666, 0x103))
print(os.getuid() != 0, os.geteuid() != 0, libc.prctl(39, 0, 0, 0, 0), libc.prctl(23, 21, 0, 0, 0))
"""
    answers = inside(body, tier)
    assert answers[:3] == ["EPERM"] * 3
    assert answers[3:6] == ["True", "True", "1"]
    if tier == "full":
        assert answers[6] == "0"  # the bounding set as well


def test_no_secret_of_the_caller_is_in_any_environ(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUMEHOOD_TEST_SECRET", "hunter2-hunter2")
    confine.close()  # so that the spawner is started with it around
    body = """
found = b''
for pid in ['self', *range(1, 40_000)]:
    for name in ('environ', 'cmdline', 'mem'):
        try: found += open(f'/proc/{pid}/{name}', 'rb').read(1 << 16)
        except OSError: pass
print(b'hunter2' in found)
"""
    assert inside(body, tier) == ["False"]


def test_the_supervisor_of_the_jail_cannot_be_read_or_written(tier: str) -> None:
    body = """
parent = os.getppid()
for name in ('mem', 'environ', 'maps', 'fd', 'root'):
    path = f'/proc/{parent}/{name}'
    attempt(lambda: os.listdir(path) if name in ('fd', 'root') else open(path, 'rb').read(1))
"""
    assert set(inside(body, tier)) <= {"EACCES", "EPERM", "ENOENT"}


def test_another_job_cannot_be_reached(tier: str) -> None:
    job = confine.start(confine.Spec(source="import time; time.sleep(20)", tier=tier))
    try:
        body = "attempt(lambda: os.kill(-1, 9))"
        inside(body + "\nimport signal", tier) if tier == "full" else None
        with pytest.raises(TimeoutError):
            job.wait(0.2)
    finally:
        job.kill()
        assert job.wait().exit.kind == "stopped"


def test_no_core_is_written(tier: str) -> None:
    outcome = confine.python("import resource; print(resource.getrlimit(resource.RLIMIT_CORE))", tier=tier)
    assert outcome.stdout == b"(0, 0)\n"


def test_without_namespaces_attributes_of_the_hosts_files_stay(tmp_path: Path) -> None:
    """Landlock does not cover these calls; the filter does."""
    file = tmp_path / "file"
    file.write_text("x")
    file.chmod(0o644)
    body = f"""
attempt(lambda: os.chmod({str(file)!r}, 0o777))
attempt(lambda: os.utime({str(file)!r}, (1, 1)))
attempt(lambda: os.chown({str(file)!r}, -1, -1))
attempt(lambda: os.setxattr({str(file)!r}, 'user.x', b'y'))
"""
    before = file.stat()
    assert inside(body, "no-userns") == ["EPERM"] * 4
    assert (file.stat().st_mode, file.stat().st_mtime) == (before.st_mode, before.st_mtime)
    assert outside(body)[:2] == ["done", "done"]


def test_a_bomb_of_forks_ends_with_its_job(tier: str) -> None:
    source = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    outcome = confine.python(source, limits={"processes": 16}, timeout_s=1.0, tier=tier)
    assert outcome.exit.kind in ("deadline", "processes", "memory")
    assert confine.python("print('after')", tier=tier).stdout == b"after\n"


def test_shared_memory_that_is_let_go_of_still_counts(tier: str) -> None:
    """Its pages stay, in nobody's resident size."""
    source = """
import ctypes, mmap, time
kept = []
for i in range(24):
    kept.append(mmap.mmap(-1, 8 << 20))
    for at in range(0, 8 << 20, 4096): kept[-1][at] = 1
    where = ctypes.addressof(ctypes.c_char.from_buffer(kept[-1]))
    ctypes.CDLL(None).prctl(0x53564D41, 0, ctypes.c_ulong(where), ctypes.c_ulong(8 << 20), b"libc.so")
    kept[-1].madvise(mmap.MADV_DONTNEED)
time.sleep(10)
"""
    assert confine.python(source, limits={"memory_bytes": 64 << 20}, tier=tier).exit.kind == "memory"


def test_pages_cannot_be_parked_in_pipes(tier: str) -> None:
    """One byte of a huge page in a pipe keeps the whole page, and nobody's size shows it."""
    assert inside("r, w = os.pipe()\nattempt(lambda: raw(278, w, 0, 0, 0))", tier) == ["EPERM"]


def test_nobody_hides_from_the_supervisor(tier: str) -> None:
    """A process that is not dumpable cannot be looked into: PR_SET_DUMPABLE is 4."""
    assert inside("print(libc.prctl(4, 0, 0, 0, 0), libc.prctl(3, 0, 0, 0, 0))", tier) == ["-1", "1"]


DEEP = "import os\nfor i in range({}):\n    os.mkdir('d' * 200); os.chdir('d' * 200)\n"
HIDDEN = "import os\nos.umask(0); os.mkdir('d', 0o300); os.chdir('d')\n"
FILL = "import time\nfor i in range(16): open(str(i), 'wb').write(bytes(1 << 20))\ntime.sleep(10)"


@pytest.mark.parametrize("place", [DEEP.format(40), DEEP.format(120), HIDDEN])
@pytest.mark.parametrize("has_workdir", [False, True])
def test_without_namespaces_what_lies_deep_or_unreadable_is_measured(
    place: str, has_workdir: bool, tmp_path: Path
) -> None:
    if has_workdir and os.geteuid() != 0:
        pytest.skip("an ordinary user's folder is not copied")
    options = {"workdir": tmp_path} if has_workdir else {}
    outcome = confine.python(place + FILL, tier="no-userns", limits={"disk_bytes": 4 << 20}, **options)
    assert outcome.exit.kind == "disk"


@pytest.mark.parametrize("place", [DEEP.format(600), HIDDEN + "open('x', 'w')"])
def test_a_private_folder_is_removed_however_it_was_left(place: str) -> None:
    source = f"import os\nprint(os.getcwd(), flush=True)\n{place}"
    outcome = confine.python(source, tier="no-userns")
    assert outcome.exit.kind in ("exited", "disk")
    assert not Path(outcome.stdout.decode().strip()).exists()
    assert confine.python("print('after')", tier="no-userns").stdout == b"after\n"
