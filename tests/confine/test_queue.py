"""More jobs at once than run: they wait in order, and everyone is told what became of theirs."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from confine.test_callers import caller  # noqa: F401 — a fixture
from confine.test_lifetime import wait_until
from fumehood import confine
from fumehood.confine import Spec
from fumehood.confine.admission import MOST_RUNNING
from fumehood.confine.api import _CLIENT

#: Says its number where everyone can see it.
NOTE = "import os, sys\nos.write(os.open('notes', os.O_WRONLY | os.O_APPEND), sys.argv[1].encode() + b' ')"


def start(source: str, **fields: Any) -> confine.Job:
    return confine.start(Spec(source=source, **fields))


@pytest.fixture
def busy() -> Iterator[list[confine.Job]]:
    """As many jobs as run at once, all of which run until somebody ends them."""
    jobs = [start("import time; time.sleep(600)", timeout_s=600) for _ in range(MOST_RUNNING)]
    yield jobs
    for job in jobs:
        job.kill()
    for job in jobs:
        job.wait(20)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="queue-") as name:
        Path(name, "notes").touch()
        yield Path(name)


def note(number: int, folder: Path, **fields: Any) -> confine.Job:
    return start(NOTE, args=[str(number)], workdir=folder, **fields)


def free_one(busy: list[confine.Job]) -> None:
    job = busy.pop()
    job.kill()
    assert job.wait(20).exit.kind == "stopped"


def notes(folder: Path) -> list[str]:
    return (folder / "notes").read_text().split()


def test_jobs_that_wait_run_in_order_and_their_time_begins_with_them(
    busy: list[confine.Job], folder: Path
) -> None:
    waiting = [note(number, folder, timeout_s=0.8) for number in range(5)]
    wait_until(lambda: False, seconds=1.2)  # longer than any of them may last
    assert notes(folder) == []
    free_one(busy)  # each makes room for the next
    for job in waiting:
        outcome = job.wait(20)
        assert (outcome.exit.kind, outcome.duration_s < 0.8) == ("exited", True), outcome
    assert notes(folder) == [str(number) for number in range(5)]


def test_a_deadline_counts_once_a_job_has_begun(busy: list[confine.Job]) -> None:
    job = start("import time; time.sleep(600)", timeout_s=0.3)
    wait_until(lambda: False, seconds=0.6)
    free_one(busy)
    assert job.wait(20).exit.kind == "deadline"


def test_one_that_waits_is_ended_at_once_and_never_runs(busy: list[confine.Job], folder: Path) -> None:
    killed, timed_out, last = (note(number, folder) for number in range(3))
    killed.kill()
    assert killed.wait(20).exit.kind == "stopped"
    with pytest.raises(TimeoutError):
        timed_out.wait(0.05)
    timed_out.kill()
    assert timed_out.wait(20).exit.kind == "stopped"
    free_one(busy)
    assert last.wait(20).exit.kind == "exited"
    assert notes(folder) == ["2"]


def test_one_whose_caller_is_gone_never_runs(busy: list[confine.Job], folder: Path) -> None:
    """Dropped, or cancelled: in either case its socket is closed."""

    async def cancel() -> None:
        task = asyncio.create_task(confine.apython(NOTE, argv=["1"], workdir=folder))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    dropped = note(0, folder)
    asyncio.run(cancel())
    del dropped
    last = note(2, folder)
    free_one(busy)
    assert last.wait(20).exit.kind == "exited"
    assert notes(folder) == ["2"]


def test_everyone_is_told_when_the_supervisor_dies(busy: list[confine.Job], folder: Path) -> None:
    waiting = [note(number, folder) for number in range(8)]
    os.kill(_CLIENT.spawner(()).pid, signal.SIGKILL)
    assert {job.wait(20).exit.kind for job in [*busy, *waiting]} == {"spawner"}
    assert notes(folder) == []
    assert confine.python("print(1)").stdout == b"1\n"


def test_ending_all_jobs_ends_those_that_wait(busy: list[confine.Job], folder: Path) -> None:
    waiting = [note(number, folder) for number in range(8)]
    confine.close()
    assert {job.wait(20).exit.kind for job in [*busy, *waiting]} == {"spawner"}
    assert notes(folder) == []


def test_jobs_of_threads_and_loops_all_get_their_own_answer() -> None:
    """A hundred and sixty at once, more than twice as many as run."""
    answers: dict[int, bytes] = {}

    def source(number: int) -> str:
        return f"import time; time.sleep(0.05); print({number})"

    def in_thread(first: int) -> None:
        jobs = {number: start(source(number)) for number in range(first, first + 10)}
        answers.update({number: job.wait(60).stdout for number, job in jobs.items()})

    async def in_loop() -> None:
        numbers = range(80, 160)
        outcomes = await asyncio.gather(*(confine.apython(source(number)) for number in numbers))
        answers.update({n: outcome.stdout for n, outcome in zip(numbers, outcomes, strict=True)})

    threads = [threading.Thread(target=in_thread, args=(n * 10,)) for n in range(8)]
    for thread in threads:
        thread.start()
    asyncio.run(in_loop())
    for thread in threads:
        thread.join()
    assert answers == {number: b"%d\n" % number for number in range(160)}


TOO_MANY = """
resource.setrlimit(resource.RLIMIT_NOFILE, (1022, 1022))
SLEEP = Spec(source="import time; time.sleep(600)", tier=TIER, timeout_s=600)
jobs = [confine.start(SLEEP) for _ in range(64)]
waiting = [confine.start(Spec(source="print(7)", tier=TIER)) for _ in range(2)]
over = confine.start(Spec(source="open('ran', 'w')", tier=TIER))
try:
    end(False, ended=over.wait(20).exit.kind)
except ConfinementError as error:
    jobs[0].kill()
    answers = [job.wait(20).stdout.decode() for job in waiting]
    end(answers == ["7\\n"] * 2 and one() == "42", layer=error.layer, text=str(error), answers=answers)
"""


def test_more_than_may_wait_are_refused_and_the_others_go_on(caller: Any) -> None:  # noqa: F811
    from confine.callers import CALL

    found = caller(CALL + TOO_MANY)
    assert (found.get("good"), found.get("layer")) == (True, "queue"), found
    assert "64 jobs run and 2 wait already" in found["text"]
