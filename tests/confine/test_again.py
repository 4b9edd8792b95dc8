"""What was sent once is sent again with other source, and does what the same job prepared anew does."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from host import require
from pydantic import ConfigDict

from confine.test_lifetime import is_alive, wait_until
from fumehood import confine
from fumehood.confine import Spec, client, prepare, wire
from fumehood.confine.again import Again
from fumehood.confine.api import _CLIENT
from fumehood.confine.profile import Limits, Profile, named
from fumehood.errors import ConfinementError

TEXTS = (
    "print(1)",
    "",
    "print('\"}\\n\\\\')",
    "print('''a\n\tb''')",
    "print('\x7f')",
    '{"source": "print(2)"}',
    "\n\nprint(3)",
    "# " + "x" * 15_000,
)
_LIMIT = "import resource as r; print(r.getrlimit(7)[0])"
#: What is not only another source, and what a job with it has to say then.
OTHERWISE: dict[str, tuple[dict[str, Any], str, str]] = {
    "words": ({"args": ["one"]}, "import sys; print(sys.argv)", "['-c', 'one']\n"),
    "environment": ({"env": {"A": "b"}}, "import os; print(os.environ['A'])", "b\n"),
    "input": ({"stdin": b"in"}, "print(input())", "in\n"),
    "tier": ({"tier": "no-userns"}, "import os; print(os.getpid() > 2)", "True\n"),
    "limits": ({"limits": {"open_files": 20}}, _LIMIT, "20\n"),
    "profile": ({"profile": "python-data"}, "print('')", "\n"),
}


class _Loose(Profile):
    """Of a class of the application's own, which may be changed."""

    model_config = ConfigDict(frozen=False)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[Spec]:
    """The jobs that were prepared anew, since one like the default was sent."""
    require("userns")
    confine.python("")
    monkeypatch.setattr(_CLIENT.current(), "again", Again())
    confine.python("")
    specs: list[Spec] = []
    real = prepare.order

    def order(spec: Spec, *args: Any, **options: Any) -> Any:
        specs.append(spec)
        return real(spec, *args, **options)

    monkeypatch.setattr(prepare, "order", order)
    return specs


def test_a_job_like_one_before_is_not_prepared_again(prepared: list[Spec]) -> None:
    for number in range(3):
        assert confine.python(f"print({number})").stdout == b"%d\n" % number
    assert not prepared


@pytest.mark.parametrize("text", TEXTS)
def test_any_source_arrives_as_it_is(text: str, prepared: list[Spec]) -> None:
    again = confine.python(f"{text}\n")
    assert not prepared
    anew = confine.python(f"{text}\n", env={"ANEW": "1"})
    assert len(prepared) == 1
    assert (again.stdout, again.stderr, again.exit) == (anew.stdout, anew.stderr, anew.exit)


@pytest.mark.parametrize("text", ["print('é')", "#" * 17_000 + "\nprint(1)", b"print(2)"])
def test_source_that_is_not_short_and_ascii_is_prepared(text: str | bytes, prepared: list[Spec]) -> None:
    confine.python(text)
    assert len(prepared) == 1


def test_source_that_is_no_text_is_refused(prepared: list[Spec]) -> None:
    with pytest.raises(UnicodeEncodeError):
        confine.python("print('\udc80')")
    assert confine.python("print(1)").stdout == b"1\n"


@pytest.mark.parametrize("what", OTHERWISE)
def test_what_is_otherwise_is_never_taken_for_the_same(what: str, prepared: list[Spec]) -> None:
    options, source, says = OTHERWISE[what]
    for _ in range(2):
        other = confine.python(source, **options)
        assert other.stdout.decode() == says, other
        assert confine.python("import sys; print(sys.argv)").stdout == b"['-c']\n"
        assert confine.python(_LIMIT).stdout != b"20\n"
    assert {spec.source for spec in prepared} == {source}


def test_a_folder_and_what_is_left_in_one_are_never_taken_for_nothing(
    prepared: list[Spec], tmp_path: Path
) -> None:
    left = confine.python("open('left', 'w').write('here')", artifacts=["left"])
    assert [artifact.body for artifact in left.artifacts] == [b"here"]
    there = confine.python("import os; print(os.getcwd())", workdir=tmp_path)
    assert there.stdout.decode() == f"{tmp_path}\n"
    assert len(prepared) == 2


def test_a_file_that_took_the_number_of_ours_is_shown_to_no_job(prepared: list[Spec], tmp_path: Path) -> None:
    """The application has closed one file that it did not open, and has opened its own."""
    secret = tmp_path / "secret"
    secret.write_text("ours alone")
    with secret.open("rb") as file:
        number = os.dup2(file.fileno(), prepare._nothing().fd)
    assert confine.python("import os; print(os.read(0, 100))").stdout == b"b''\n"
    os.close(number)
    assert len(prepared) == 1


def test_sockets_made_for_a_supervisor_that_was_closed_meanwhile_are_closed() -> None:
    require("userns")
    confine.python("")
    spawner = _CLIENT.spawner(())
    confine.close()
    spawner.make_ready()
    assert not spawner._spare


def test_each_deadline_is_its_own(prepared: list[Spec]) -> None:
    hangs = "import time; time.sleep(60)"
    for timeout_s in (0.2, 0.3, 0.2):
        ended = confine.python(hangs, timeout_s=timeout_s)
        assert ended.exit.kind == "deadline"
        assert timeout_s <= ended.duration_s
    assert [spec.timeout_s for spec in prepared] == [0.2, 0.3]
    with pytest.raises(ValueError, match="timeout_s"):
        confine.python("", timeout_s=-1.0)


def test_who_wants_output_as_it_comes_gets_it(prepared: list[Spec]) -> None:
    pieces: list[bytes] = []
    for _ in range(2):
        confine.python("print(1)", on_output=lambda _, part: pieces.append(part))
        assert confine.python("print(2)").stdout == b"2\n"
    assert pieces == [b"1\n", b"1\n"]
    assert len(prepared) == 1


def test_a_profile_that_was_changed_since_counts_as_it_is_now(prepared: list[Spec]) -> None:
    profile = named("python-offline").model_copy(update={"env": {"SAID": "before"}})
    source = "import os; print(os.environ['SAID'])"
    assert confine.python(source, profile=profile).stdout == b"before\n"
    profile.env["SAID"] = "after"
    assert confine.python(source, profile=profile).stdout == b"after\n"
    assert confine.python(source, profile=profile).stdout == b"after\n"
    assert len(prepared) == 2


def test_a_profile_that_was_changed_by_other_means_counts_as_it_is_now(
    prepared: list[Spec],
) -> None:
    folder = tempfile.mkdtemp(prefix="shown-")
    os.chmod(folder, 0o755)
    source, paths = f"import os; print(os.path.exists({folder!r}))", list[str]()
    copied = named("python-offline").model_copy(update={"read": paths})
    own = _Loose(name="own", limits=Limits(open_files=20))
    try:
        for profile in (copied, own):
            assert confine.python(source, profile=profile).stdout == b"False\n"
        paths.append(folder)
        own.read = (folder,)
        for profile in (copied, own):
            assert confine.python(source, profile=profile).stdout == b"True\n"
        own.read, own.limits = (), Limits(open_files=30)
        assert confine.python(_LIMIT, profile=own).stdout == b"30\n"
    finally:
        os.rmdir(folder)


def test_other_profiles_in_the_same_place_are_others(prepared: list[Spec]) -> None:
    for number in range(200):
        profile = named("python-offline").model_copy(update={"env": {"SAID": str(number)}})
        if not number % 40:
            assert confine.python("import os; print(os.environ['SAID'])", profile=profile).stdout == (
                b"%d\n" % number
            )
        del profile
        gc.collect(0)
    assert len(prepared) == 5


def test_what_cannot_be_a_key_is_refused_as_before(prepared: list[Spec]) -> None:
    with pytest.raises(ValueError, match="tier"):
        confine.python("", tier=["full"])
    with pytest.raises(ValueError, match="either argv or source"):
        confine.start(Spec(source="", argv=["/bin/true"]))
    assert not prepared


def test_a_supervisor_that_was_killed_is_not_sent_to(prepared: list[Spec]) -> None:
    pid = _CLIENT.spawner(()).pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    assert confine.python("print(1)").stdout == b"1\n"
    needed = len(prepared)  # once more, where its keeper was not found dead yet
    assert needed in (1, 2)
    assert confine.python("print(2)").stdout == b"2\n"
    assert len(prepared) == needed


def test_few_are_remembered() -> None:
    profile, again = named("python-offline"), Again()
    for number in range(1000):
        spec = Spec(source="1", timeout_s=float(number))
        order = prepare.Order(beginning=b"a", body=b"", fds=(), timeout_s=1.0, kind=None)  # type: ignore[arg-type]
        again.note(spec, profile, order)
        assert again.order(spec, profile, spec.source) == (order, b'a"1"}')
    assert len(again._sent) < 100


def test_threads_that_start_at_once_hear_their_own_answers(prepared: list[Spec]) -> None:
    wrong: list[object] = []

    def work(mine: int) -> None:
        for number in range(10):
            out = confine.python(f"print({mine}, {number})").stdout
            if out != b"%d %d\n" % (mine, number):
                wrong.append(out)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not prepared


def test_sockets_that_are_made_ahead_are_closed_with_their_supervisor() -> None:
    require("userns")
    confine.python("")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            confine.close()
            confine.python("")
            gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_fork_has_none_of_its_parents_sockets() -> None:
    require("userns")
    confine.python("")
    ours = _CLIENT.spawner(())._spare[0][0].fileno()
    link = os.readlink(f"/proc/self/fd/{ours}")
    pid = os.fork()
    if not pid:
        code = 1
        try:
            open_here = [fd for fd in range(200) if os.path.lexists(f"/proc/self/fd/{fd}")]
            code = 2 if link in [os.readlink(f"/proc/self/fd/{fd}") for fd in open_here] else 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert confine.python("print(5)").stdout == b"5\n"


def test_where_no_more_files_may_be_opened_a_job_says_so() -> None:
    require("userns")
    confine.python("")
    spawner = _CLIENT.spawner(())
    spawner._close_spare()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "pair", lambda: (_ for _ in ()).throw(OSError(24, "Too many open files")))
        with pytest.raises(ConfinementError, match="Too many open files"):
            confine.python("print(1)")
    assert confine.python("print(1)").stdout == b"1\n"


def test_a_supervisor_that_takes_no_more_jobs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was stopped, and what it has not read fills the socket."""
    require("userns")
    monkeypatch.setattr(client, "_HELLO_S", 2.0)
    confine.close()
    assert confine.python("print(1)").stdout == b"1\n"
    pid = _CLIENT.spawner(()).pid
    os.kill(pid, signal.SIGSTOP)
    jobs: list[confine.Job] = []
    try:
        began = time.monotonic()
        with pytest.raises(ConfinementError, match="could not be handed over"):
            while time.monotonic() - began < 60:
                began = time.monotonic()
                jobs.append(confine.start(Spec(source="#" * 15_000)))
        assert 1.5 < time.monotonic() - began < 3.8
    finally:
        os.kill(pid, signal.SIGCONT)
    assert len(jobs) > 2
    assert all(job.wait().exit.is_success for job in jobs)
    confine.close()
