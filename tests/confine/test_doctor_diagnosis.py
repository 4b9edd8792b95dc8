"""From facts to findings, for hosts that are not here: distributions, kernels, containers, all invented."""

from __future__ import annotations

import errno
import re
from dataclasses import replace

import pytest

from fumehood.confine.diagnosis import _PROBES, Finding, describe, diagnose, is_confinable, notes
from fumehood.confine.doctor import confirm
from fumehood.confine.facts import Facts
from fumehood.confine.layers import REMEDIES
from fumehood.confine.plan import layers
from fumehood.confine.probes import _PROBES as TRIED

GOOD = Facts(
    distribution="debian",
    version="12",
    title="Debian GNU/Linux 12 (bookworm)",
    kernel="6.12.9",
    machine="x86_64",
    interpreter="/usr/bin/python3.12",
    sysctls={"user.max_user_namespaces": "63000", "kernel.unprivileged_userns_clone": "1"},
    lsms=("lockdown", "capability", "landlock", "yama", "apparmor"),
    tried=dict.fromkeys(["fork", *TRIED], 0),
    numbers={"landlock": 6, "nofile": 1_048_576, "nproc": 60_000, "tasks": 200},
)
#: What was not tried once user namespaces were refused.
NEEDS_USERNS = ("mount-ns", "pid-ns", "net-ns", "ipc-ns", "uts-ns", "cgroup-ns", "id-map", "private-mounts")
NEEDS_USERNS += ("tmpfs", "open_tree", "mount_setattr", "move_mount", "pivot_root", "proc", "host-name")


def where(facts: Facts = GOOD, /, *, failed: dict[str, int] | None = None, **changes: object) -> Facts:
    """Another host; what needs a probe that failed was not tried."""
    tried = {**facts.tried, **(failed or {})}
    if tried.get("user-ns"):
        tried = {name: code for name, code in tried.items() if name not in (*NEEDS_USERNS, "bounding-set")}
    if tried.get("id-map"):
        tried = {n: c for n, c in tried.items() if n not in NEEDS_USERNS[7:] or n == "host-name"}
    numbers = {**facts.numbers, **changes.pop("numbers", {})}  # type: ignore[dict-item]
    return replace(facts, tried=tried, numbers=numbers, **changes)  # type: ignore[arg-type]


def finding(facts: Facts, layer: str, tier: str = "full") -> Finding:
    (found,) = [f for f in diagnose(facts)[tier] if f.layer == layer]
    return found


def able(facts: Facts) -> list[str]:
    return [tier for tier, findings in diagnose(facts).items() if is_confinable(findings)]


def test_a_host_with_everything_has_nothing_to_say() -> None:
    for tier, findings in diagnose(GOOD).items():
        assert [f.layer for f in findings] == list(layers(tier, observe=True))
        assert {(f.state, f.detail, f.remedy) for f in findings} == {("ok", "", "")}
    assert able(GOOD) == ["full", "no-userns"]


def test_every_layer_is_probed_by_something_that_is_tried() -> None:
    assert set(_PROBES) == {*layers("full", observe=True), *layers("no-userns", observe=True)}
    assert {probe for probes in _PROBES.values() for probe in probes} <= {*TRIED, "identity", "fork"}


@pytest.mark.parametrize("layer", _PROBES)
@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.EPROTO, -31, -14])
def test_each_layer_can_be_missing_and_then_says_what_to_do(layer: str, code: int) -> None:
    facts = where(failed={_PROBES[layer][-1]: code})
    found = finding(facts, layer)
    assert found.is_missing
    assert describe(code) in found.detail
    assert len(found.remedy) > 20
    assert "full" not in able(facts)


def test_ubuntu_is_told_to_allow_one_interpreter_rather_than_all_programs() -> None:
    """AppArmor there lets the namespace be made and takes every capability in it away."""
    ubuntu = where(
        failed={"id-map": errno.EACCES},
        distribution="ubuntu",
        version="24.04",
        sysctls={"kernel.apparmor_restrict_unprivileged_userns": "1", "user.max_user_namespaces": "63000"},
    )
    found = finding(ubuntu, "user-ns")
    assert found.state == "missing"
    assert "EACCES" in found.detail
    profile = re.search(r"<<'END'\n(.*?)\n  END", found.remedy, re.DOTALL)
    assert profile
    assert "profile fumehood-python3.12 /usr/bin/python3.12 flags=(unconfined) {" in profile[1]
    assert "userns," in profile[1]
    assert "apparmor_parser -r /etc/apparmor.d/fumehood-python3.12" in found.remedy
    first_sysctl = found.remedy.index("apparmor_restrict_unprivileged_userns=0")
    assert found.remedy.index("apparmor_parser") < first_sysctl
    assert "opens more than is needed" in found.remedy[first_sysctl:]
    assert "--tier no-userns" in found.remedy
    assert finding(ubuntu, "rootfs").state == "unknown"
    assert able(ubuntu) == ["no-userns"]


@pytest.mark.parametrize(
    ("code", "sysctls", "wanted"),
    [
        (errno.EPERM, {"kernel.unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone = 1"),
        (errno.ENOSPC, {"user.max_user_namespaces": "0"}, "user.max_user_namespaces = 15000"),
        (errno.ENOSPC, {"user.max_user_namespaces": "4"}, "user.max_user_namespaces = 15000"),
        (errno.EINVAL, {}, "CONFIG_USER_NS"),
        (errno.EPERM, {}, "chroot"),
    ],
)
def test_each_setting_that_forbids_namespaces_is_named(
    code: int, sysctls: dict[str, str], wanted: str
) -> None:
    facts = where(failed={"user-ns": code}, sysctls=sysctls)
    assert wanted in finding(facts, "user-ns").remedy
    assert able(facts) == ["no-userns"]


def test_a_limit_on_another_kind_of_namespace_is_that_ones() -> None:
    facts = where(failed={"net-ns": errno.ENOSPC}, sysctls={"user.max_net_namespaces": "0"})
    assert "user.max_net_namespaces = 15000" in finding(facts, "net-ns").remedy


@pytest.mark.parametrize(
    ("container", "wanted"),
    [
        ("docker", "--security-opt seccomp=FILE"),
        ("podman", "--security-opt unmask=ALL"),
        ("kubernetes", "localhostProfile: FILE"),
        ("lxc", "settings of lxc"),
    ],
)
def test_a_container_is_told_how_to_be_run(container: str, wanted: str) -> None:
    facts = where(failed={"user-ns": errno.EPERM}, container=container, is_filtered=True)
    remedy = finding(facts, "user-ns").remedy
    assert wanted in remedy
    assert all(call in remedy for call in ("unshare", "pivot_root", "landlock_restrict_self"))
    assert f"this is a container ({container})" in notes(facts)


def test_a_container_on_a_host_that_restricts_namespaces_is_told_both() -> None:
    facts = where(
        failed={"private-mounts": errno.EACCES},
        container="docker",
        sysctls={"kernel.apparmor_restrict_unprivileged_userns": "1"},
    )
    remedy = finding(facts, "rootfs").remedy
    assert "--security-opt seccomp=FILE" in remedy
    assert "apparmor=NAME" in remedy


def test_ubuntu_may_also_refuse_the_first_mount() -> None:
    facts = where(
        failed={"private-mounts": errno.EACCES},
        sysctls={"kernel.apparmor_restrict_unprivileged_userns": "1"},
    )
    assert "apparmor_parser" in finding(facts, "rootfs").remedy


def test_a_masked_proc_is_weaker_and_no_more() -> None:
    facts = where(failed={"proc": errno.EPERM}, container="docker")
    found = finding(facts, "rootfs")
    assert (found.state, "systempaths=unconfined" in found.remedy) == ("weaker", True)
    assert able(facts) == ["full", "no-userns"]


def test_a_surrounding_filter_that_kills_is_recognised() -> None:
    facts = where(failed={"user-ns": -31}, is_filtered=True)
    found = finding(facts, "user-ns")
    assert "SIGSYS" in found.detail
    assert "RestrictNamespaces=no" in found.remedy


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"kernel": "5.10.0-28-amd64", "version": "11"}, "bullseye-backports"),
        ({"kernel": "5.4.0-190", "distribution": "ubuntu", "version": "20.04"}, "linux-generic-hwe-20.04"),
        ({"kernel": "4.18.0-513.el8", "distribution": "rhel", "version": "8.9"}, "dnf upgrade kernel"),
        ({"kernel": "4.18.0-513.el8", "distribution": "rocky", "like": ("rhel", "fedora")}, "dnf upgrade"),
        ({"kernel": "5.4.0", "distribution": "nixos"}, "Linux 5.13 or later"),
        ({"kernel": "5.10.0", "container": "docker"}, "has the kernel of its host"),
    ],
)
def test_a_kernel_without_landlock_is_to_be_replaced(changes: dict[str, object], wanted: str) -> None:
    facts = where(failed={"landlock": errno.ENOSYS}, **changes)
    assert wanted in finding(facts, "landlock").remedy
    assert able(facts) == []


@pytest.mark.parametrize(
    ("distribution", "step"),
    [("debian", "update-grub"), ("ubuntu", "update-grub"), ("fedora", "grubby"), ("gentoo", "command line")],
)
def test_landlock_that_is_not_switched_on_is_booted_with_the_others(distribution: str, step: str) -> None:
    facts = where(
        failed={"landlock": errno.EOPNOTSUPP},
        distribution=distribution,
        lsms=("lockdown", "capability", "yama", "selinux"),
    )
    remedy = finding(facts, "landlock", "no-userns").remedy
    assert "lsm=landlock,lockdown,yama,selinux" in remedy
    assert step in remedy


def test_a_new_kernel_built_without_landlock_is_not_told_to_update() -> None:
    remedy = finding(where(failed={"landlock": errno.ENOSYS}), "landlock").remedy
    assert "CONFIG_SECURITY_LANDLOCK" in remedy


@pytest.mark.parametrize(
    ("version", "lacks"),
    [
        (1, ["link files", "truncate", "TCP", "ioctl", "signals"]),
        (2, ["truncate", "TCP", "ioctl", "signals"]),
        (3, ["TCP", "ioctl", "signals"]),
        (4, ["ioctl", "signals"]),
        (5, ["signals"]),
        (6, []),
        (7, []),
    ],
)
def test_what_an_older_landlock_lacks_is_said(version: int, lacks: list[str]) -> None:
    facts = where(numbers={"landlock": version})
    found = finding(facts, "landlock")
    assert found.state == ("weaker" if lacks else "ok")
    every = ["link files", "truncate", "TCP", "ioctl", "signals"]
    assert [word for word in every if word in found.detail] == lacks
    assert able(facts) == ["full", "no-userns"]


@pytest.mark.parametrize(
    ("distribution", "command"),
    [
        ("debian", "apt install libseccomp2"),
        ("fedora", "dnf install libseccomp"),
        ("alpine", "apk add libseccomp"),
        ("arch", "pacman -S libseccomp"),
        ("void", "package manager"),
    ],
)
def test_a_missing_library_is_named_by_its_package(distribution: str, command: str) -> None:
    facts = where(distribution=distribution, libseccomp="the filter compiler cannot be loaded")
    assert finding(facts, "seccomp").state == "missing"
    assert command in finding(facts, "seccomp").remedy


@pytest.mark.parametrize(
    ("probe", "code", "wanted"),
    [
        ("observe", errno.EINVAL, "Linux 5.5"),
        ("observe", errno.EBUSY, "one listener"),
        ("pidfd", errno.ENOSYS, "Linux 5.3"),
        ("close_range", errno.ENOSYS, "Linux 5.9"),
        ("mount_setattr", errno.ENOSYS, "Linux 5.12"),
    ],
)
def test_a_call_that_a_kernel_lacks_names_the_version(probe: str, code: int, wanted: str) -> None:
    (layer,) = [name for name, probes in _PROBES.items() if probe in probes]
    assert wanted in finding(where(failed={probe: code}, kernel="4.19.0"), layer).remedy


def test_where_nothing_can_be_forked_only_that_is_known() -> None:
    facts = replace(GOOD, tried={"fork": errno.EAGAIN})
    assert finding(facts, "supervisor").state == "missing"
    assert "TasksMax" in finding(facts, "supervisor").remedy
    others = {f.state for f in diagnose(facts)["full"] if f.layer not in ("supervisor", "identity")}
    assert others == {"unknown"}
    assert able(facts) == []


def test_low_limits_are_weaker() -> None:
    files = finding(where(numbers={"nofile": 512}), "rlimits")
    assert (files.state, "512" in files.detail, "LimitNOFILE" in files.remedy) == ("weaker", True, True)
    few = where(numbers={"nproc": 220, "tasks": 200})
    assert finding(few, "supervisor").state == "weaker"
    assert finding(where(few, is_root=True), "supervisor").state == "ok"  # jobs are somebody else then
    assert finding(where(numbers={"nofile": -1, "nproc": -1}), "rlimits").state == "ok"


def test_root_whose_folders_cannot_be_mapped_is_told() -> None:
    facts = where(failed={"identity": 0, "mapped-mounts": errno.EINVAL}, is_root=True)
    assert finding(facts, "identity").state == "weaker"
    assert finding(facts, "identity", "no-userns").state == "ok"
    unreachable = where(failed={"identity": errno.EACCES}, is_root=True)
    assert finding(unreachable, "identity").remedy == REMEDIES["identity"]
    assert able(unreachable) == []


def test_an_unknown_machine_is_noted() -> None:
    assert "this machine is riscv64" in " ".join(notes(where(machine="riscv64")))
    assert "this machine is" not in " ".join(notes(where(machine="aarch64")))


def test_a_cgroup_that_bounds_everything_is_noted() -> None:
    assert "2048 MiB" in " ".join(notes(where(memory_limit_bytes=2 << 30)))
    assert "MemoryMax" in " ".join(notes(GOOD))
    assert "no cgroup is delegated" in " ".join(notes(GOOD))
    assert "delegated to this user: /sys/x" in " ".join(notes(where(delegated_cgroup="/sys/x")))


def test_a_job_in_earnest_has_the_last_word() -> None:
    full = diagnose(GOOD)["full"]
    assert confirm(full, {}) == full
    refused = confirm(full, {"seccomp": "it answered done"})
    assert [(f.layer, f.detail) for f in refused if f.is_missing] == [("seccomp", "it answered done")]
    assert not is_confinable(confirm(full, {"jail": "a fault"}))
    known = diagnose(where(failed={"user-ns": errno.EPERM}))["full"]
    assert confirm(known, {"user-ns": "refused"}) == known
