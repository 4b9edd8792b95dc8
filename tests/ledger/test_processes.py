"""Several processes on one ledger: forks, kills, races, queues, wake-ups."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import pytest
from host import require

from fumehood.approval import State
from fumehood.errors import LedgerError
from fumehood.ledger import ClaimState, Outcome, open_ledger
from fumehood.ledger.sqlite import SqliteLedger
from ledger.samples import PERMIT, SESSION, a_call, asked, limited

TESTS = str(Path(__file__).parent.parent)
HEAD = f"""
import os, sys, time
sys.path.insert(0, {TESTS!r})
from fumehood.ledger import ClaimState, Outcome, open_ledger
from host import require
from ledger.samples import PERMIT, SESSION, a_call, asked, limited, verdict
ledger = open_ledger(sys.argv[1])
ledger.open_session(SESSION)
"""


@contextmanager
def running(source: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """Another process with the ledger open; it is over when the block is."""
    command = [sys.executable, "-c", HEAD + textwrap.dedent(source), *map(str, args)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def said(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen[str], line: str = "go") -> None:
    assert child.stdin is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()


@contextmanager
def forked(body: Callable[[TextIO], None]) -> Iterator[tuple[int, TextIO]]:
    """A forked child that does *body* (no start-up to wait for), and what it writes; killed at the end."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            with os.fdopen(writing, "w", buffering=1) as out:
                body(out)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said_by_child:
        yield pid, said_by_child
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def in_child(check: Callable[[], bool]) -> int:
    """0 if *check* is true in a forked child, 1 if not, 2 if it raised."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 2
    try:
        code = 0 if check() else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def test_limit_is_exact_across_two_processes(ledger: SqliteLedger, path: Path) -> None:
    source = """
        print("ready", flush=True); sys.stdin.readline()
        done = [ledger.record(a_call(), limited(max=75), document=b"").decision for _ in range(60)]
        print(sum(d.is_permit for d in done), flush=True)
    """
    with running(source, path) as one, running(source, path) as two:
        assert (said(one), said(two)) == ("ready", "ready")
        tell(one)
        tell(two)
        assert int(said(one)) + int(said(two)) == 75
    assert not ledger.record(a_call(), limited(max=75), document=b"").decision.is_permit


def test_one_of_two_processes_claims_each_call(ledger: SqliteLedger, path: Path) -> None:
    source = """
        print("ready", flush=True); sys.stdin.readline()
        print(sum(ledger.claim(a_call(call_id=f"c{n}"), None).is_mine for n in range(100)), flush=True)
        sys.stdin.readline()
    """
    with running(source, path) as one, running(source, path) as two:
        assert (said(one), said(two)) == ("ready", "ready")
        tell(one)
        tell(two)
        assert int(said(one)) + int(said(two)) == 100


def test_forked_child_opens_its_own_and_the_parent_is_untouched(ledger: SqliteLedger) -> None:
    waiting = asked(ledger)
    lease = ledger.lease

    def use() -> bool:
        claimed = ledger.claim(a_call(call_id="from-the-child"), None)
        state = ledger.approval(waiting.id).state
        return claimed.is_mine and ledger.lease != lease and state is State.PENDING

    assert in_child(use) == 0
    assert ledger.lease == lease
    assert ledger.record(a_call(), PERMIT, document=b"").decision.is_permit
    found = ledger.find_claim(a_call(call_id="from-the-child"))
    assert found is not None
    assert found.state is ClaimState.OUTCOME_UNKNOWN  # the child is gone, and its lease with it


def test_fork_while_other_threads_write(ledger: SqliteLedger) -> None:
    end = threading.Event()

    def write() -> None:
        while not end.is_set():
            ledger.record(a_call(), PERMIT, document=b"{}")

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert in_child(lambda: ledger.record(a_call(), PERMIT, document=b"").decision.is_permit) == 0
    finally:
        end.set()
        for thread in threads:
            thread.join()


def test_fork_behind_pythons_back_is_noticed(ledger: SqliteLedger, path: Path) -> None:
    source = """
        import ctypes
        from fumehood.errors import LedgerError
        waiting = asked(ledger)
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            try:
                ledger.record(a_call(), PERMIT, document=b"")
            except LedgerError as error:
                print(error.code, flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        ledger.record(a_call(), PERMIT, document=b"")
        print(ledger.approval(waiting.id).state, flush=True)
    """
    with running(source, path) as child:
        assert (said(child), said(child)) == ("ledger_forked", "pending")


def test_stopped_process_does_not_hang_the_others(
    ledger: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
        with ledger._hands.store.write():
            print("inside", flush=True); sys.stdin.readline()
    """
    monkeypatch.setattr("fumehood.ledger.store._BUSY_MS", 100)
    with running(source, path) as child:
        assert said(child) == "inside"
        child.send_signal(signal.SIGSTOP)
        with pytest.raises(LedgerError) as caught:
            ledger.record(a_call(), PERMIT, document=b"")
        assert caught.value.code == "ledger_busy"
        child.kill()
        child.wait()
    assert ledger.record(a_call(), PERMIT, document=b"").decision.is_permit


def test_forked_child_does_not_keep_its_parent_alive(path: Path, ledger: SqliteLedger) -> None:
    source = """
        waiting = asked(ledger)
        ledger.claim(a_call(call_id="open"), None)
        if os.fork() == 0:
            print(waiting.id, os.getpid(), flush=True)
            time.sleep(60)
        sys.stdin.readline()
    """
    with running(source, path) as parent:
        id_, grandchild = said(parent).split()
        try:
            assert ledger.approval(id_).state is State.PENDING
            parent.kill()
            parent.wait()
            assert ledger.approval(id_).state is State.CANCELLED
        finally:
            os.kill(int(grandchild), signal.SIGKILL)


def work(ledger: SqliteLedger, effects: Path, said: TextIO, number: int) -> None:
    """Decide, claim, act and finish, over and over; say each committed decision."""
    with open(effects, "a", buffering=1) as acted:
        for n in range(10**6):
            call = a_call(call_id=f"{number}-{n}")
            said.write(f"{ledger.record(call, PERMIT, document=b'{}').seq}\n")
            if ledger.claim(call, None).is_mine:
                acted.write(call.attempt_id + "\n")
                ledger.finish(call, Outcome(ClaimState.DONE, b"1"), claimed=True)
            ledger.note(SESSION, "note", "x")


@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_at_any_moment_nothing_committed_is_lost(
    ledger: SqliteLedger, path: Path, rounds: int
) -> None:
    effects = path.with_name("effects")
    seen: list[int] = []
    for number in range(rounds):
        with forked(lambda out, number=number: work(ledger, effects, out, number)) as (pid, said_by_child):
            seen.append(int(said_by_child.readline()))
            time.sleep(random.random() * 0.05)
            os.kill(pid, signal.SIGKILL)
            seen += [int(line) for line in said_by_child.read().split("\n")[:-1]]
    ledger.reap()
    ran = effects.read_text().split()
    decided = {e.attempt_id: e.seq for e in _all(ledger) if e.kind == "decision"}
    assert set(decided.values()) >= set(seen)
    assert len(ran) == len(set(ran))
    assert set(ran) <= set(decided)  # nothing ran without a committed decision
    with ledger._hands.store.read() as db:
        assert db.execute("SELECT count(*) FROM claims WHERE state = 'open'").fetchone() == (0,)
        claimed = {row[0] for row in db.execute("SELECT attempt_id FROM claims")}
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert set(ran) <= claimed
    leases = list((path.parent / "l.db.leases").glob("*.lease"))
    assert [p.name for p in leases] == [ledger.lease]


def _all(ledger: SqliteLedger) -> list[object]:
    found = []
    while page := ledger.events(found[-1].seq if found else 0):
        found += page
    return found  # type: ignore[return-value]


FULL = """
    import resource
    call = a_call(call_id="before")
    ledger.record(call, PERMIT, document=b"{}")
    ledger.flush()
    size = os.stat(sys.argv[1] + "-wal").st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 2000, size + 2000))
    from fumehood.errors import LedgerError
    codes = []
    for what in (
        lambda: ledger.claim(a_call(call_id="full"), None),
        lambda: ledger.record(a_call(), PERMIT, document=b"x" * 100000),
        lambda: asked(ledger),
        lambda: (ledger.note(SESSION, "note", "y"), ledger.flush()),
    ):
        try:
            what()
            codes.append("done")
        except LedgerError as error:
            codes.append(error.code)
    print(*codes, flush=True)
    print("claimed" if ledger.find_claim(a_call(call_id="full")) else "nothing", flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 2000, size + 2000))
    os._exit(0)
"""


def test_full_disk_is_an_error_and_nothing_is_claimed(ledger: SqliteLedger, path: Path) -> None:
    with running(FULL, path) as child:
        assert set(said(child).split()) <= {"ledger_full", "ledger_io"}
        assert said(child) == "nothing"
    assert ledger.find_claim(a_call(call_id="full")) is None
    assert ledger.approvals() == []
    assert ledger.claim(a_call(call_id="full"), None).is_mine


def test_full_file_system_is_an_error_and_nothing_is_claimed(tmp_path: Path) -> None:
    require("root")
    source = HEAD + textwrap.dedent("""
        from fumehood.errors import LedgerError
        done, codes = 0, set()
        for n in range(200):
            try:
                ledger.record(a_call(call_id=f"c{n}"), PERMIT, document=b"x" * 20000)
                ledger.claim(a_call(call_id=f"c{n}"), None)
                done += 1
            except LedgerError as error:
                codes.add(error.code)
        held = sum(ledger.find_claim(a_call(call_id=f"c{n}")) is not None for n in range(200))
        print(codes, done == held, 0 < done < 200)
    """)
    (tmp_path / "small").mkdir()
    mount = 'mount -t tmpfs -o size=1500k,mode=700 none "$1" && exec "$2" -c "$3" "$1/l.db"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", str(tmp_path / "small"), sys.executable, source]
    done = subprocess.run(command, capture_output=True, text=True)
    if "permission denied" in done.stderr.lower():
        pytest.skip("this host lets nobody mount")
    assert done.stdout.strip() == "{'ledger_full'} True True", done.stderr


def test_writing_goes_on_once_there_is_room_again(ledger: SqliteLedger, path: Path) -> None:
    source = """
        import resource
        from fumehood.errors import LedgerError
        ledger.record(a_call(), PERMIT, document=b"{}")
        size = os.stat(sys.argv[1] + "-wal").st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        ledger.note(SESSION, "note", "kept")
        for _ in range(2):
            try:
                ledger.flush()
            except LedgerError as error:
                print(error.code, flush=True)
        try:
            ledger.note(SESSION, "note", "refused while the disk is full")
        except LedgerError as error:
            print(error.code, flush=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        ledger.note(SESSION, "note", "later")
        ledger.flush()
        print("done", flush=True); sys.stdin.readline()
    """
    with running(source, path) as child:
        assert [said(child) for _ in range(4)] == ["ledger_io", "ledger_io", "ledger_io", "done"]
    assert [e.summary for e in ledger.events() if e.kind == "note"] == ["kept", "later"]


def test_watcher_is_woken_by_another_process(ledger: SqliteLedger, path: Path) -> None:
    woken = threading.Event()
    end = ledger.watch(woken.set)
    source = """
        for line in sys.stdin:
            begun = time.monotonic()
            ledger.record(a_call(), PERMIT, document=b"")
            print(begun, flush=True)
    """
    delays = []
    with running(source, path) as child:
        time.sleep(0.05)
        for _ in range(20):
            time.sleep(0.015)
            woken.clear()
            tell(child)
            assert woken.wait(1.9), "only the slow poll would come after this"
            now = time.monotonic()
            delays.append(now - float(said(child)))
    end()
    delays.sort()
    print(
        "from before the commit to the wake-up in another process: "
        f"median {delays[10] * 1e3:.2f} ms, worst {delays[-1] * 1e3:.2f} ms"
    )
    assert delays[10] < 0.5


def test_watcher_sees_own_changes_and_ends_when_told(ledger: SqliteLedger) -> None:
    woken = threading.Event()
    end = ledger.watch(woken.set)
    ledger.record(a_call(), PERMIT, document=b"")
    assert woken.wait(1.9)
    end()
    time.sleep(0.05)
    woken.clear()
    ledger.record(a_call(), PERMIT, document=b"")
    assert not woken.wait(0.1)


def test_broken_watcher_does_not_deafen_the_others(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    woken = threading.Event()

    def broken() -> None:
        raise RuntimeError("broken")

    ledger.watch(broken)
    ledger.watch(woken.set)
    for _ in range(2):
        woken.clear()
        ledger.record(a_call(), PERMIT, document=b"")
        assert woken.wait(1.9)
    assert until(lambda: told)


def until(is_so: Callable[[], object], *, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def test_socket_of_a_dead_watcher_is_removed(ledger: SqliteLedger, path: Path) -> None:
    with running("ledger.watch(lambda: None); print('up', flush=True); sys.stdin.readline()", path) as child:
        assert said(child) == "up"
        child.kill()
        child.wait()
    sockets = list(Path(os.environ["XDG_RUNTIME_DIR"]).rglob("*.sock"))
    assert len(sockets) == 1
    ledger.record(a_call(), PERMIT, document=b"")
    assert not sockets[0].exists()


def test_full_queue_of_a_watcher_that_hangs_does_not_hold_up_a_writer(
    ledger: SqliteLedger, path: Path
) -> None:
    source = """
        ledger.watch(lambda: time.sleep(60))
        ledger.record(a_call(), PERMIT, document=b"")
        print("hangs", flush=True); sys.stdin.readline()
    """
    with running(source, path) as child:
        said(child)
        for _ in range(200):
            ledger.record(a_call(), PERMIT, document=b"")


def test_runtime_folder_of_others_is_refused(ledger: SqliteLedger) -> None:
    folder = Path(os.environ["XDG_RUNTIME_DIR"]) / "fumehood"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(LedgerError) as caught:
        ledger.watch(lambda: None)
    assert caught.value.code == "ledger_unsafe"
    folder.chmod(0o700)


def test_open_reader_lets_the_log_grow_and_it_shrinks_afterwards(ledger: SqliteLedger, path: Path) -> None:
    document = b'{"x":"' + b"y" * 60_000 + b'"}'
    import sqlite3

    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchone()
    for _ in range(400):
        ledger.record(a_call(), PERMIT, document=document)
    grown = ledger._hands.store.wal_bytes()
    reader.close()
    for _ in range(60):  # a checkpoint is asked for every 64 commits; on a busy machine it may come later
        for _ in range(64):
            ledger.record(a_call(), PERMIT, document=b"{}")
        ledger._hands.store.checkpoint()
        if ledger._hands.store.wal_bytes() < 16 << 20:
            break
    print(f"WAL {grown >> 20} MB with an open reader, {ledger._hands.store.wal_bytes() >> 20} MB after it")
    assert grown > 20 << 20
    assert ledger._hands.store.wal_bytes() < 16 << 20


def test_eight_writers_all_get_their_turn(ledger: SqliteLedger) -> None:
    waiting, go = os.pipe()

    def write(out: TextIO) -> None:
        os.close(go)
        calls = [a_call(call_id=f"c{n}") for n in range(50)]
        ledger.record(calls[0], PERMIT, document=b"{}")
        out.write("ready\n")
        os.read(waiting, 1)  # until all are
        worst, count, start = 0.0, 0, time.monotonic()
        while time.monotonic() < start + 1.5:
            begin = time.monotonic()
            ledger.record(calls[count % 50], PERMIT, document=b"{}")
            worst, count = max(worst, time.monotonic() - begin), count + 1
        out.write(f"{count} {worst}\n")

    with ExitStack() as stack:
        children = [stack.enter_context(forked(write)) for _ in range(8)]
        assert [said_by_child.readline() for _, said_by_child in children] == ["ready\n"] * 8
        os.close(go)
        results = [said_by_child.readline().split() for _, said_by_child in children]
    os.close(waiting)
    counts = sorted(int(c) for c, _ in results)
    worst = max(float(w) for _, w in results)
    print(f"8 writers: {counts[0]} to {counts[-1]} records each, longest wait {worst * 1e3:.0f} ms")
    assert counts[0] * 10 > counts[-1]


def test_notes_are_committed_in_groups(ledger: SqliteLedger) -> None:
    ledger.flush()
    before = ledger._hands.store._commits
    for number in range(500):
        ledger.note(SESSION, "note", f"n{number}", attributes=json.dumps({"n": number}).encode())
    ledger.flush()
    notes = [e for e in ledger.events() if e.kind == "note"]
    assert [e.summary for e in notes] == [f"n{n}" for n in range(500)]
    assert ledger._hands.store._commits - before < 50


def test_note_reaches_other_readers_by_itself(ledger: SqliteLedger, path: Path) -> None:
    reader = open_ledger(path, readonly=True)
    ledger.note(SESSION, "note", "hello")
    assert until(lambda: any(e.kind == "note" for e in reader.events()))
    reader.close()


def test_notes_are_written_when_the_process_ends(ledger: SqliteLedger, path: Path) -> None:
    source = """
        ledger.note(SESSION, "note", "last words")
        call = a_call(call_id="r", kind="read")
        ledger.finish(call, Outcome(ClaimState.DONE), claimed=False)
    """
    with running(source, path) as child:
        child.wait()
    assert [e.summary for e in ledger.events() if e.kind in ("note", "outcome")] == [
        "last words",
        "done in 0 ms",
    ]


def test_who_is_faster_than_the_disk_waits(ledger: SqliteLedger) -> None:
    batch = ledger._hands.batch
    batch._committing.acquire()
    writer = threading.Thread(target=lambda: [ledger.note(SESSION, "note", "x") for _ in range(10_005)])
    writer.start()
    assert until(lambda: len(batch._rows) == 10_000)
    writer.join(0.2)
    assert writer.is_alive()
    assert len(batch._rows) == 10_000
    batch._committing.release()
    writer.join(60)
    assert not writer.is_alive()
    ledger.flush()
    with ledger._hands.store.read() as db:
        assert db.execute("SELECT count(*) FROM events WHERE kind = 'note'").fetchone() == (10_005,)


def test_last_writer_is_named(ledger: SqliteLedger, path: Path) -> None:
    with running("ledger.record(a_call(), PERMIT, document=b''); print('ok', flush=True)", path) as child:
        said(child)
        child.wait()
    writer = ledger.writer()
    assert writer is not None
    assert (writer.agent, writer.pid, writer.program) == ("bot", child.pid, "-c")
