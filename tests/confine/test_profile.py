"""Profiles and plans as values: the meet, what a policy may add, what a plan says. Nothing is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fumehood.confine.plan import Host, Plan, Workdir, filter_spec, plan
from fumehood.confine.profile import Limits, Profile, extend, from_obligations, is_inside, merge, named, names
from fumehood.errors import ConfinementError
from fumehood.model import Confine

HOST = Host(
    uid=1000,
    executable="/opt/python/bin/python3",
    python_roots=("/opt/python",),
    python_path=("/opt/python/lib",),
    links=(("/bin", "usr/bin"),),
    system=("/usr", "/etc/ld.so.cache"),
    devices=("/dev/null",),
)
FLAGS = ("system", "python", "fork", "exec")
PATHS = st.sampled_from(["/srv", "/srv/a", "/srv/a/b", "/srv/c", "/data", "/data/x"])
PROFILES = st.builds(
    Profile,
    name=st.sampled_from(["one", "two", "three"]),
    system=st.booleans(),
    python=st.booleans(),
    fork=st.booleans(),
    exec=st.booleans(),
    observe=st.booleans(),
    read=st.lists(PATHS, max_size=3).map(tuple),
    write=st.lists(PATHS, max_size=3).map(tuple),
    limits=st.builds(Limits, memory_bytes=st.integers(32 << 20, 1 << 40), processes=st.integers(1, 4096)),
)


@given(a=PROFILES, b=PROFILES)
def test_the_meet_allows_nothing_that_either_refuses(a: Profile, b: Profile) -> None:
    met = merge([a, b])
    for side in (a, b):
        assert all(getattr(side, flag) or not getattr(met, flag) for flag in FLAGS)
        assert met.observe or not side.observe
        assert all(any(is_inside(path, allowed) for allowed in side.write) for path in met.write)
        readable = (*side.read, *side.write)
        assert all(any(is_inside(path, allowed) for allowed in readable) for path in met.read)
        for limit in Limits.model_fields:
            assert getattr(met.limits, limit) <= getattr(side.limits, limit)


@given(a=PROFILES, b=PROFILES)
def test_the_meet_has_no_order_and_repeats_change_nothing(a: Profile, b: Profile) -> None:
    one, other = merge([a, b]), merge([b, a])
    assert all(getattr(one, flag) == getattr(other, flag) for flag in (*FLAGS, "observe", "limits"))
    assert set(one.write) == set(other.write)
    assert merge([a, a]) == a


def test_every_built_in_profile_is_explained() -> None:
    assert names() == ("strictest", "python-offline", "python-data", "shell", "model-loader", "pdp")
    assert all(named(name).about for name in names())


def test_an_unknown_profile_says_which_there_are() -> None:
    with pytest.raises(ConfinementError, match=r"python-ofline.*python-offline"):
        named("python-ofline")


def test_none_is_not_a_profile() -> None:
    with pytest.raises(ConfinementError):
        merge([])


def test_fields_that_nobody_knows_are_refused() -> None:
    with pytest.raises(ValidationError):
        Profile(name="x", netwrok=True)  # type: ignore[call-arg]
    with pytest.raises(ConfinementError, match="memory"):
        extend(named("shell"), limits={"memory": 1})
    with pytest.raises(ConfinementError):
        extend(named("shell"), limits={"memory_bytes": 1})


@pytest.mark.parametrize("name", ["", ".", "a.", "os path", "os;evil", "../x", "1a", "a-b"])
def test_what_is_no_module_is_not_loaded_ahead(name: str) -> None:
    with pytest.raises(ValidationError, match="not the name of a module"):
        Profile(name="x", imports=("json", name))


@pytest.mark.parametrize(("name", "value"), [("", "x"), ("A=B", "x"), ("A", "x\0y"), ("A\0", "x")])
def test_what_no_program_can_be_passed_is_no_variable(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match="cannot be a variable"):
        Profile(name="x", env={name: value})


def test_sockets_are_only_for_who_is_watched() -> None:
    with pytest.raises(ValidationError, match="only for a profile that observes"):
        Profile(name="x", sockets=True)


def test_only_modules_that_all_ask_for_are_loaded_ahead() -> None:
    both = merge(["python-data", "python-offline"])
    assert both.imports == named("python-offline").imports
    assert "numpy" in named("python-data").imports
    assert merge(["python-data", "shell"]).imports == ()


def test_a_profile_is_applied_by_a_worker_to_itself_or_to_a_child() -> None:
    with pytest.raises(ConfinementError, match="lock_down"):
        plan(named("pdp"), HOST)
    with pytest.raises(ConfinementError):
        merge(["pdp", "shell"])


@pytest.mark.parametrize(
    "path", ["/", "/etc", "/etc/ssh", "/proc/1", "/usr", "/dev", "relative", "/no/such/thing"]
)
def test_a_policy_opens_nothing_of_the_system(path: str) -> None:
    with pytest.raises(ConfinementError):
        extend(named("shell"), read=[path])


def test_a_policy_opens_nothing_of_the_guard(tmp_path: Path) -> None:
    keys = tmp_path / "state/keys"
    keys.mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "state")
    for path in (tmp_path, tmp_path / "state", keys, tmp_path / "link"):
        for way in ("read", "write"):
            with pytest.raises(ConfinementError, match="belongs to the guard"):
                extend(named("shell"), forbidden_paths=[str(keys)], **{way: [str(path)]})


def test_obligations_become_one_profile(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    found = from_obligations(
        [
            Confine(
                "python-offline", read=(str(data),), limits=(("memory_bytes", 64 << 20), ("timeout_s", 5))
            ),
            Confine("python-offline", read=(str(data),), limits=(("processes", 4.0),)),
        ]
    )
    assert found.read == (str(data),)
    assert (found.limits.memory_bytes, found.limits.processes, found.limits.timeout_s) == (64 << 20, 4, 5)
    assert from_obligations([Confine("shell"), Confine("strictest")]).exec is False
    with pytest.raises(ConfinementError, match="network"):
        from_obligations([Confine("shell", network=("example.org",))])


# --- plans ---------------------------------------------------------------------------------------------


def test_a_plan_is_pure_and_survives_the_wire() -> None:
    made = plan(named("model-loader"), HOST)
    assert made == plan(named("model-loader"), HOST)
    assert Plan.from_wire(json.loads(json.dumps(made.to_wire()))) == made
    with pytest.raises(ValueError, match="version"):
        Plan.from_wire({**made.to_wire(), "version": 0})


def test_only_the_folder_of_the_job_can_be_written() -> None:
    made = plan(named("python-offline"), HOST, workdir=Workdir("/srv/w", (1, 2), masks=("/srv/w/.git",)))
    assert [b.path for b in made.binds if b.writable] == ["/srv/w"]
    assert [b.path for b in made.binds] == sorted(b.path for b in made.binds)
    assert made.workdir == "/srv/w"


def test_an_interpreter_inside_the_folder_stays_read_only() -> None:
    host = HOST._replace(python_roots=("/srv/w/.venv",))
    made = plan(named("python-offline"), host, workdir=Workdir("/srv/w", (1, 2)))
    assert {b.path: b.writable for b in made.binds}["/srv/w/.venv"] is False
    with pytest.raises(ConfinementError, match="read-only inside"):
        plan(named("python-offline"), host, tier="no-userns", workdir=Workdir("/srv/w", (1, 2)))


def test_the_shell_does_not_see_the_interpreter() -> None:
    made = plan(named("shell"), HOST)
    assert "/opt/python" not in {b.path for b in made.binds}
    assert made.python_path == ()


def test_the_environment_is_made_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAK", "1")
    monkeypatch.setenv("PYTHONPATH", "/leak")
    assert set(dict(plan(named("python-offline"), Host.here()).env)) == {
        "GIT_CONFIG_NOSYSTEM",
        "HOME",
        "LANG",
        "LOGNAME",
        "PATH",
        "PYTHONDONTWRITEBYTECODE",
        "TMPDIR",
        "USER",
    }


def test_what_this_interpreter_needs_is_found() -> None:
    here = Host.here()
    for path in (here.executable, *here.python_path):
        assert any(is_inside(path, root) for root in (*here.python_roots, *here.system))


@pytest.mark.parametrize(("abi", "signals"), [(1, False), (5, False), (6, True), (7, True)])
def test_signals_need_a_namespace_or_a_scope(abi: int, signals: bool) -> None:
    profile = named("python-offline")
    full = filter_spec(plan(profile, HOST), profile=profile, landlock_abi=abi)
    least = filter_spec(plan(profile, HOST, tier="no-userns"), profile=profile, landlock_abi=abi)
    assert full.signals
    assert least.signals is signals
    assert not least.attributes
    assert not least.pidfd
