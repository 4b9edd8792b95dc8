"""Merging profiles is a meet: no order, no repeats, and never more than any side grants, down to the plan."""

from __future__ import annotations

import itertools
import platform
from typing import Any

import pyseccomp
import pytest
from host import require
from hypothesis import given, settings
from hypothesis import strategies as st

from confine.bpf import ALLOW, NOTIFY, simulate
from fumehood import confine
from fumehood.confine import Attempt
from fumehood.confine.plan import Host, Plan, Workdir, filter_spec, plan
from fumehood.confine.profile import Limits, Profile, from_obligations, is_inside, merge, named, names
from fumehood.confine.seccomp import (
    EXEC_ONCE_FD,
    Answer,
    FilterSpec,
    Rule,
    compile_filter,
    compile_observer,
    observed_rules,
    rules,
)
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
GRANTS = ("system", "python", "fork", "exec", "jit", "sockets")
PATHS = [
    "/data",
    "/data/x",
    "/opt",
    "/opt/x",
    "/srv",
    "/srv/a",
    "/srv/a/b",
    "/srv/a/b/c",
    "/srv/c",
]
FOLDERS = st.lists(st.sampled_from(PATHS), max_size=4).map(tuple)
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "memory_bytes": st.sampled_from([32 << 20, 512 << 20, 1 << 30]),  # the default is among them
        "processes": st.sampled_from([1, 64, 4096]),
        "cpu_s": st.sampled_from([1, 600, 86_400]),
        "file_bytes": st.sampled_from([0, 128 << 20, 1 << 30]),
        "open_files": st.sampled_from([16, 256, 1000]),
        "timeout_s": st.sampled_from([0.5, 60.0, 3600.0]),
    },
).map(lambda chosen: Limits(**chosen))
PROFILES = st.builds(
    lambda seen, **fields: Profile(observe=seen[0], sockets=seen[1], **fields),
    name=st.sampled_from(["one", "two"]),
    system=st.booleans(),
    python=st.booleans(),
    fork=st.booleans(),
    exec=st.booleans(),
    jit=st.booleans(),
    seen=st.sampled_from([(False, False), (True, False), (True, True)]),
    read=FOLDERS,
    write=FOLDERS,
    keep=FOLDERS,
    env=st.dictionaries(st.sampled_from(["A", "B", "PATH", "HOME"]), st.sampled_from(["1", "2"]), max_size=3),
    imports=st.lists(st.sampled_from(["json", "re", "numpy"]), max_size=3).map(tuple),
    limits=LIMITS,
)


def right(profile: Profile, path: str) -> int:
    """0 nothing, 1 read, 2 write: what the innermost entry around *path* says; `write` speaks last.

    `keep` takes away, and shows nothing by itself.
    """
    entries = [(len(p), 1, True) for p in profile.read if is_inside(path, p)]
    entries += [(len(p), 2, True) for p in profile.write if is_inside(path, p)]
    kept = [(len(p), 1, False) for p in profile.keep if is_inside(path, p)]
    return max(entries + kept)[1] if entries else 0


def kept(profile: Profile) -> set[str]:
    """What would be read-only inside a working folder around everything."""
    entries = {**dict.fromkeys((*profile.read, *profile.keep), 1), **dict.fromkeys(profile.write, 2)}
    around = {path: [p for p in entries if is_inside(path, p)] for path in PATHS}
    return {path for path, found in around.items() if found and entries[max(found, key=len)] == 1}


def meaning(profile: Profile) -> dict[str, Any]:
    """A profile without its name, its text, and the order and repeats in it."""
    return {
        **{flag: getattr(profile, flag) for flag in (*GRANTS, "observe", "kind")},
        "kept": kept(profile),
        "rights": {path: right(profile, path) for path in PATHS},
        "env": dict(profile.env),
        "imports": set(profile.imports),
        "limits": profile.limits.model_dump(),
        "chosen": set(profile.limits.model_fields_set),
    }


# --- the order -------------------------------------------------------------------------------------


@given(a=PROFILES)
def test_a_profile_met_with_itself_stays_itself(a: Profile) -> None:
    assert meaning(merge([a, a])) == meaning(a)
    assert meaning(merge([a, a.model_copy(update={"name": "other"})])) == meaning(a)


@given(a=PROFILES, b=PROFILES)
def test_the_order_of_two_profiles_means_nothing(a: Profile, b: Profile) -> None:
    assert meaning(merge([a, b])) == meaning(merge([b, a]))
    assert meaning(merge([a, b, a])) == meaning(merge([a, b]))


@given(a=PROFILES, b=PROFILES, c=PROFILES)
def test_how_three_profiles_are_grouped_means_nothing(a: Profile, b: Profile, c: Profile) -> None:
    assert (
        meaning(merge([merge([a, b]), c])) == meaning(merge([a, merge([b, c])])) == meaning(merge([a, b, c]))
    )


# --- never more than either ------------------------------------------------------------------------


@given(a=PROFILES, b=PROFILES)
@settings(max_examples=300)
def test_a_merged_profile_grants_nothing_that_a_side_does_not(a: Profile, b: Profile) -> None:
    met = merge([a, b])
    for side in (a, b):
        assert all(getattr(side, flag) or not getattr(met, flag) for flag in GRANTS)
        assert met.observe or not side.observe
        assert all(right(met, path) <= right(side, path) for path in PATHS)
        assert kept(met) >= kept(side)
        assert met.env.items() <= side.env.items()
        assert set(met.imports) <= set(side.imports)
        assert side.limits.model_fields_set <= met.limits.model_fields_set
        for limit in Limits.model_fields:
            assert getattr(met.limits, limit) <= getattr(side.limits, limit)


@given(a=PROFILES, b=PROFILES)
def test_what_both_sides_grant_stays_granted(a: Profile, b: Profile) -> None:
    """The greatest such profile: strict, and not stricter than its sides."""
    met = merge([a, b])
    assert all(getattr(met, flag) for flag in GRANTS if getattr(a, flag) and getattr(b, flag))
    assert all(right(met, path) == min(right(a, path), right(b, path)) for path in PATHS)
    assert all(
        getattr(met.limits, limit) == min(getattr(a.limits, limit), getattr(b.limits, limit))
        for limit in Limits.model_fields
    )


def test_a_time_that_a_rule_chose_still_bounds_the_caller_when_it_equals_the_default() -> None:
    """Not chosen, it is what a caller gets who says nothing; chosen, it is the most that one can ask for."""
    silent, chosen = Confine("python-offline"), Confine("python-offline", limits=(("timeout_s", 60.0),))
    for order in ([silent, chosen], [chosen, silent]):
        assert "timeout_s" in from_obligations(order).limits.model_fields_set


def test_a_folder_inside_a_writable_one_stays_read_only() -> None:
    keeps = Profile(name="keeps", write=("/srv",), read=("/srv/a",))
    inner = Profile(name="inner", write=("/srv/a", "/srv/c"))
    met = merge([keeps, inner])
    assert (met.write, met.read) == (("/srv/c",), ("/srv/a",))
    open_again = Profile(name="open", keep=("/srv/a",), write=("/srv/a",))
    assert merge([open_again, Profile(name="none")]).keep == ()


@pytest.mark.parametrize("other", [name for name in names() if name != "pdp"])
def test_kinds_do_not_mix_and_equal_ones_meet(other: str) -> None:
    assert merge(["pdp", "pdp"]) == named("pdp")
    for order in (["pdp", other], [other, "pdp"]):
        with pytest.raises(ConfinementError, match="cannot be met"):
            merge(order)


# --- down to the plan ------------------------------------------------------------------------------

WORKDIRS = st.sampled_from([None, *(Workdir(p, (1, 2)) for p in ("/srv", "/srv/a", "/data", "/opt"))])
TIERS = st.sampled_from(["full", "no-userns"])


def shown(made: Plan, path: str) -> int:
    """The mount on top decides; without mounts Landlock adds up what every folder around the path has."""
    around = [(len(b.path), 1 + b.writable) for b in made.binds if is_inside(path, b.path)]
    if made.tier == "full":
        return max(around, default=(0, 0))[1]
    return max((right_ for _, right_ in around), default=0)


def planned(profile: Profile, tier: Any, workdir: Workdir | None) -> Plan | None:
    try:
        return plan(profile, HOST, tier=tier, workdir=workdir)
    except ConfinementError:
        return None


@given(a=PROFILES, b=PROFILES, tier=TIERS, workdir=WORKDIRS)
@settings(max_examples=500)
def test_a_merged_plan_shows_and_lets_nothing_more(
    a: Profile, b: Profile, tier: Any, workdir: Workdir | None
) -> None:
    met = planned(merge([a, b]), tier, workdir)
    for side in (planned(a, tier, workdir), planned(b, tier, workdir)):
        if met is None or side is None:
            continue
        for path in (*PATHS, "/opt/python/lib", "/usr/bin", "/etc/ld.so.cache"):
            assert shown(met, path) <= shown(side, path), path
        assert set(met.links) <= set(side.links)
        assert set(met.layers) >= set(side.layers)
        assert (met.exec, met.sockets) <= (side.exec or not met.exec, side.sockets or not met.sockets)
        assert all(value <= dict(side.rlimits)[name] for name, value in met.rlimits)
        for limit in ("disk_bytes", "inodes", "memory_bytes", "processes", "output_bytes", "timeout_s"):
            assert getattr(met, limit) <= getattr(side, limit)


@given(a=PROFILES, b=PROFILES)
def test_a_merged_plan_says_in_the_environment_only_what_both_say(a: Profile, b: Profile) -> None:
    """What is fixed comes back where one side had replaced it and the other had not."""
    sides = [dict(plan(side, HOST).env) for side in (a, b)]
    bare = dict(plan(merge([a, b]).model_copy(update={"env": {}}), HOST).env)
    for name, value in plan(merge([a, b]), HOST).env:
        assert bare.get(name) == value or all(side.get(name) == value for side in sides)


@pytest.mark.parametrize("path", ["/usr", "/usr/local/share", "/opt/python", "/opt/python/lib"])
def test_the_system_and_the_interpreter_are_no_folder_to_write(path: str) -> None:
    with pytest.raises(ConfinementError, match="own"):
        plan(Profile(name="x", write=(path,)), HOST)
    with pytest.raises(ConfinementError, match="own"):
        plan(named("shell"), HOST, workdir=Workdir(path, (1, 2)))


@pytest.mark.parametrize("profile", ["shell", "python-offline"])
def test_the_interpreter_inside_a_working_folder_is_never_written(profile: str) -> None:
    """Whether the profile shows it or not: the caller runs it afterwards."""
    made = plan(named(profile), HOST, workdir=Workdir("/opt", (1, 2)))
    assert shown(made, "/opt/python/lib") == 1
    with pytest.raises(ConfinementError, match="read-only inside"):
        plan(named(profile), HOST, tier="no-userns", workdir=Workdir("/opt", (1, 2)))


def test_without_namespaces_nothing_is_quietly_writable_that_should_be_only_read() -> None:
    for profile in (
        Profile(name="x", write=("/srv",), read=("/srv/a",)),
        Profile(name="x", write=("/opt",), python=True),
    ):
        with pytest.raises(ConfinementError, match="read-only inside"):
            plan(profile, HOST, tier="no-userns")


def test_a_socket_that_one_side_has_is_seen_and_refused_in_the_merged_job() -> None:
    require("userns")
    source = "import socket\ntry: socket.socket()\nexcept PermissionError: raise SystemExit(9)"
    alone = confine.python(source, profile="model-loader")
    assert (alone.exit.code, alone.refused) == (0, (Attempt("socket", "AF_INET SOCK_STREAM", "observed"),))
    met = confine.python(source, profile=["model-loader", "python-offline"])
    assert (met.exit.code, met.refused) == (9, (Attempt("socket", "AF_INET SOCK_STREAM", "refused"),))


# --- down to the filter ----------------------------------------------------------------------------

FLAGS = [
    dict(zip(("fork", "exec", "jit", "observe", "sockets"), bits, strict=True))
    for bits in itertools.product((False, True), repeat=5)
    if bits[3] or not bits[4]  # sockets are only where they are seen
]
KINDS = list(
    itertools.product(("full", "no-userns"), (1, 6), (False, True))
)  # tier, Landlock's version, source


def spec_of(profile: Profile, tier: Any, abi: int, is_source: bool) -> tuple[FilterSpec, Plan]:
    made = plan(profile, HOST, tier=tier)
    return filter_spec(made, profile=profile, landlock_abi=abi, is_source=is_source), made


def passes(spec: FilterSpec, made: Plan, name: str, args: tuple[int, ...], *, answer: Answer) -> bool:
    """What the filter answers, then the supervisor for what it holds."""
    if answer is not Answer.ALLOW or not any(rule.name == name for rule in observed_rules(spec)):
        return answer is Answer.ALLOW
    if name == "execveat":
        return spec.once and args[0] == EXEC_ONCE_FD
    return name != "execve" and (name not in ("socket", "connect") or made.sockets)


def matches(rule: Rule, args: tuple[int, ...]) -> bool:
    return all(args[m.index] & m.mask == m.value for m in rule.where)


def by_rules(spec: FilterSpec, made: Plan, calls: set[Any]) -> set[Any]:
    """Those of *calls* that pass."""
    listed: dict[str, list[Rule]] = {}
    for rule in rules(spec):
        listed.setdefault(rule.name, []).append(rule)
    found = set()
    for name, args in calls:
        answers = [r.answer for r in listed.get(name, ()) if matches(r, args)]
        answer = Answer.ALLOW if answers == [Answer.ALLOW] else Answer.EPERM
        if passes(spec, made, name, args, answer=answer):
            found.add((name, args))
    return found


def interesting(specs: list[FilterSpec]) -> set[tuple[str, tuple[int, ...]]]:
    """Arguments that meet every rule, and that miss it in one place."""
    found: set[tuple[str, tuple[int, ...]]] = set()
    for rule in {rule for spec in specs for rule in rules(spec)}:
        args = [0] * 6
        for match in rule.where:
            args[match.index] = match.value
        found.add((rule.name, tuple(args)))
        for match in rule.where:
            found.add(
                (rule.name, tuple(a ^ (match.mask if i == match.index else 0) for i, a in enumerate(args)))
            )
    return found


def test_a_merged_filter_lets_no_call_pass_that_a_side_refuses() -> None:
    """For every two profiles as far as filters tell them apart, in both tiers."""
    for kind in KINDS:
        sides = {tuple(f.values()): spec_of(Profile(name="x", **f), *kind) for f in FLAGS}
        calls = interesting([spec for spec, _ in sides.values()])
        allowed = {key: by_rules(spec, made, calls) for key, (spec, made) in sides.items()}
        for a, b in itertools.product(FLAGS, repeat=2):
            met = merge([Profile(name="a", **a), Profile(name="b", **b)])
            spec, _ = spec_of(met, *kind)
            key = (met.fork, met.exec, met.jit, met.observe, met.sockets)
            lets = allowed[key]
            assert lets <= allowed[tuple(a.values())] & allowed[tuple(b.values())], (a, b, kind)
            assert spec == sides[key][0]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64")
@pytest.mark.parametrize("tier", ["full", "no-userns"])
def test_the_merged_filters_of_the_named_profiles_are_stricter_as_the_kernel_runs_them(tier: str) -> None:
    jobs = [named(name) for name in names() if name != "pdp"]
    pairs = [(a, b, merge([a, b])) for a, b in itertools.combinations(jobs, 2)]
    calls = interesting([spec_of(p, tier, 6, False)[0] for p in jobs])
    lets: dict[tuple[FilterSpec, bool], set[Any]] = {}
    for profile in {id(p): p for trio in pairs for p in trio}.values():
        spec, made = spec_of(profile, tier, 6, False)
        lets.setdefault((spec, made.sockets), {c for c in calls if as_the_kernel(spec, made, *c)})
    for a, b, met in pairs:
        found = [spec_of(p, tier, 6, False) for p in (a, b, met)]
        one, other, both = (lets[spec, made.sockets] for spec, made in found)
        assert both <= one & other
        assert len(both) > 200


def as_the_kernel(spec: FilterSpec, made: Plan, name: str, args: tuple[int, ...]) -> bool:
    number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
    if number < 0:
        return False
    answer = Answer.ALLOW if simulate(compile_filter(spec), number, args) == ALLOW else Answer.EPERM
    held = compile_observer(spec)
    is_held = bool(held) and simulate(held, number, args) == NOTIFY
    assert is_held == any(rule.name == name for rule in observed_rules(spec))
    return passes(spec, made, name, args, answer=answer)
