"""What to do about a layer that a host does not give, in that host's own words: files, commands, options.

Pure text from facts. The remedy that opens least comes first: a profile for one program rather than a setting
for all of them.
"""

from __future__ import annotations

import errno
from pathlib import PurePosixPath
from typing import Final

from fumehood.confine.facts import Facts
from fumehood.confine.layers import REMEDIES

_APPARMOR: Final = """\
AppArmor keeps user namespaces from programs without a profile. Allow them to this interpreter alone:

  sudo tee /etc/apparmor.d/{name} <<'END'
  abi <abi/4.0>,
  include <tunables/global>
  profile {name} {path} flags=(unconfined) {{
    userns,
    include if exists <local/{name}>
  }}
  END
  sudo apparmor_parser -r /etc/apparmor.d/{name}

That is every program which {path} runs; an interpreter of the application's own
(`python3 -m venv --copies`) keeps it to that. Turning the restriction off for every program
(sysctl kernel.apparmor_restrict_unprivileged_userns=0) opens more than is needed."""
_UBUNTU: Final = "kernel.apparmor_restrict_unprivileged_userns"
_SYSCTL: Final = """\
{why}
  echo '{name} = {value}' | sudo tee /etc/sysctl.d/60-userns.conf
  sudo sysctl --system"""
#: What the full tier needs that runtimes' own filters refuse.
_CALLS: Final = (
    "unshare, mount, umount2, pivot_root, open_tree, move_mount, mount_setattr, sethostname, clone "
    "(with CLONE_NEW… flags), landlock_create_ruleset, landlock_add_rule, landlock_restrict_self, seccomp, "
    "pidfd_open, close_range"
)
_CONTAINERS: Final = {
    "docker": "docker run --security-opt seccomp=FILE --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined …",
    "podman": "podman run --security-opt seccomp=FILE --security-opt unmask=ALL …",
    "kubernetes": "securityContext: {seccompProfile: {type: Localhost, localhostProfile: FILE}, "
    "procMount: Unmasked}, with hostUsers: false",
}
_UPDATE: Final = {
    "debian": "apt full-upgrade, or apt install -t {suite}-backports linux-image-amd64",
    "ubuntu": "apt install linux-generic-hwe-{version}",
    "fedora": "dnf upgrade kernel",
    "arch": "pacman -Syu linux",
    "alpine": "apk upgrade linux-lts",
    "suse": "zypper update kernel-default",
}
_INSTALL: Final = {
    "debian": "apt install libseccomp2",
    "ubuntu": "apt install libseccomp2",
    "fedora": "dnf install libseccomp",
    "arch": "pacman -S libseccomp",
    "alpine": "apk add libseccomp",
    "suse": "zypper install libseccomp2",
}
_SUITES: Final = {"10": "buster", "11": "bullseye", "12": "bookworm", "13": "trixie"}


def for_probe(probe: str, code: int, facts: Facts) -> str:
    """What to do where *probe* answered *code*."""
    if probe == "identity":
        return REMEDIES["identity"]
    if probe in ("user-ns", "id-map") or probe.endswith("-ns"):
        return user_namespaces(probe, code, facts)
    if probe in _MOUNTS:
        return _mounts(probe, code, facts)
    if probe == "landlock":
        return landlock(code, facts)
    if facts.container and (code == errno.EPERM or code < 0):
        return _container(facts)
    if probe in _SINCE and code in (errno.ENOSYS, errno.EINVAL):
        return newer_kernel(facts, _SINCE[probe])
    if probe == "fork":
        return processes(facts)
    if probe == "children":
        return "/proc must be there, and be that of this pid namespace (`mount -t proc proc /proc`, or " + (
            "`unshare --mount-proc`); the kernel needs CONFIG_PROC_CHILDREN."
        )
    if probe == "observe" and code == errno.EBUSY:
        return "A surrounding sandbox holds the one listener that a process may have: run outside of it."
    return REMEDIES.get(_LAYER_OF.get(probe, probe), REMEDIES["supervisor"])


_MOUNTS: Final = (
    "private-mounts",
    "tmpfs",
    "open_tree",
    "mount_setattr",
    "move_mount",
    "pivot_root",
    "host-name",
)
#: The first Linux that has what a probe asks for.
_SINCE: Final = {
    "observe": "5.5",
    "pidfd": "5.3",
    "close_range": "5.9",
    "memfd": "3.17",
    "execveat": "3.19",
    "open_tree": "5.2",
    "move_mount": "5.2",
    "mount_setattr": "5.12",
    "landlock": "5.13",
}
_LAYER_OF: Final = {"capset": "capabilities", "bounding-set": "capabilities"}


# --- namespaces and mounts -------------------------------------------------------------------------------


def user_namespaces(probe: str, code: int, facts: Facts) -> str:
    """How this host is brought to give unprivileged user namespaces; to accept less is said at the end."""
    return f"{_open_namespaces(probe, code, facts)}\n{_ACCEPT}"


_ACCEPT: Final = "Or accept the tier no-userns (`--tier no-userns`), which needs none."


def _open_namespaces(probe: str, code: int, facts: Facts) -> str:
    limit = "user.max_user_namespaces" if probe == "id-map" else _limit_of(probe)
    if facts.container and code != errno.ENOSPC:
        return _container(facts)
    if facts.sysctls.get(_UBUNTU) == "1":
        return apparmor(facts)
    if facts.sysctls.get("kernel.unprivileged_userns_clone") == "0":
        why = "This kernel keeps user namespaces from ordinary users:"
        return _SYSCTL.format(why=why, name="kernel.unprivileged_userns_clone", value=1)
    if facts.sysctls.get(limit) == "0" or code == errno.ENOSPC:
        why = f"{limit} is {facts.sysctls.get(limit, 'used up')}: no more may be made."
        return _SYSCTL.format(why=why, name=limit, value=15000)
    if code in (errno.EINVAL, errno.ENOSYS):
        return "This kernel was built without it: use one with CONFIG_NAMESPACES and CONFIG_USER_NS."
    if facts.is_filtered or code < 0:
        return _surrounding()
    return REMEDIES["user-ns"] + " In a chroot there are none; a security module (SELinux) may refuse them."


def _limit_of(probe: str) -> str:
    kind = {"user-ns": "user", "mount-ns": "mnt"}.get(probe, probe.removesuffix("-ns"))
    return f"user.max_{kind}_namespaces"


def apparmor(facts: Facts) -> str:
    """A profile that lets this interpreter, and nothing else, make user namespaces (Ubuntu since 23.10)."""
    name = "fumehood-" + PurePosixPath(facts.interpreter).name
    return _APPARMOR.format(name=name, path=facts.interpreter)


def _container(facts: Facts) -> str:
    how = _CONTAINERS.get(facts.container)
    text = (
        f"The container's own filter is in the way. Run it with one that also allows {_CALLS}: "
        "a copy of the runtime's default profile with these added."
    )
    told = f"{text}\n  {how}" if how else f"{text} Say so in the settings of {facts.container}."
    if facts.sysctls.get(_UBUNTU) == "1":
        told += (
            "\nIts host keeps user namespaces from unconfined programs (AppArmor, Ubuntu): load a profile "
        )
        told += "with `userns,` there and name it, --security-opt apparmor=NAME."
    return told


def _surrounding() -> str:
    return (
        f"A filter around this process refuses. Allow {_CALLS} (a systemd service: RestrictNamespaces=no, no "
        "SystemCallFilter= without @mount @sandbox), or run outside of it."
    )


def _mounts(probe: str, code: int, facts: Facts) -> str:
    if facts.container and code != errno.ENOSYS:
        return f"{_container(facts)}\n{_ACCEPT}"
    if facts.sysctls.get(_UBUNTU) == "1":
        return f"{apparmor(facts)}\n{_ACCEPT}"
    if code == errno.ENOSYS:
        return f"{newer_kernel(facts, _SINCE.get(probe, '5.12'))}\n{_ACCEPT}"
    return f"{_surrounding()}\n{_ACCEPT}"


def masked_proc(facts: Facts) -> str:
    """How a container is run with its /proc unmasked: only then may a fresh one be mounted."""
    options = {
        "docker": "docker run --security-opt systempaths=unconfined …",
        "podman": "podman run --security-opt unmask=ALL …",
        "kubernetes": "securityContext: {procMount: Unmasked}, with hostUsers: false",
    }
    how = options.get(facts.container, "Mount nothing over parts of /proc around this process.")
    return f"Only programs that read /proc miss it. To have it:\n  {how}"


def mapped_mounts(facts: Facts) -> str:
    """Where mounts cannot be mapped to another user."""
    return (
        f"{newer_kernel(facts, '5.12')} The file system must be able to (ext4, xfs, btrfs since 5.15, tmpfs "
        "since 6.3). Or run as an ordinary user."
    )


# --- kernels ---------------------------------------------------------------------------------------------


def landlock(code: int, facts: Facts) -> str:
    """Not in this kernel, not switched on, or refused by who is around."""
    if code == errno.EOPNOTSUPP:
        return _boot_with_landlock(facts)
    if code == errno.ENOSYS and facts.is_older_than(5, 13):
        return newer_kernel(facts, "5.13")
    if facts.container or facts.is_filtered:
        return _container(facts) if facts.container else _surrounding()
    return f"Use a kernel with CONFIG_SECURITY_LANDLOCK ({REMEDIES['landlock']})"


def _boot_with_landlock(facts: Facts) -> str:
    modules = [name for name in facts.lsms if name not in ("landlock", "capability")]
    wanted = "lsm=" + ",".join(["landlock", *modules])
    how = {
        "debian": f'  in /etc/default/grub: GRUB_CMDLINE_LINUX="… {wanted}"\n'
        "  sudo update-grub && sudo reboot",
        "fedora": f"  sudo grubby --update-kernel=ALL --args={wanted} && sudo reboot",
    }
    how["ubuntu"] = how["debian"]
    kept = "" if modules else " (with the modules of /sys/kernel/security/lsm after it)"
    step = how.get(facts.family(), f"  add {wanted} to the kernel's command line, and reboot")
    return f"This kernel has Landlock and did not switch it on. Boot it with {wanted}{kept}:\n{step}"


def newer_kernel(facts: Facts, least: str) -> str:
    """Linux *least*, and how this distribution gets a newer one."""
    text = f"Use Linux {least} or later; this is {facts.kernel or 'older'}."
    how = _UPDATE.get(facts.family())
    if how is None or facts.container:
        return text + (" A container has the kernel of its host." if facts.container else "")
    suite = _SUITES.get(facts.version, "SUITE")
    return f"{text}\n  sudo {how.format(suite=suite, version=facts.version or 'VERSION')}"


def libseccomp(facts: Facts) -> str:
    """The library that compiles filters."""
    how = _INSTALL.get(facts.family(), "the package manager's libseccomp, 2.5 or later")
    return f"Install libseccomp: {how}"


# --- limits ----------------------------------------------------------------------------------------------


def open_files(facts: Facts) -> str:
    """The hard limit on open files."""
    how = {
        "docker": "docker run --ulimit nofile=4096:4096 …",
        "podman": "podman run --ulimit nofile=4096:4096 …",
    }
    other = "LimitNOFILE=4096 in a systemd service; `* hard nofile 4096` in /etc/security/limits.conf"
    return f"Raise it: {how.get(facts.container, other)}"


def processes(facts: Facts) -> str:
    """The limit on processes of this user."""
    how = {"docker": "docker run --ulimit nproc=4096 …", "podman": "podman run --ulimit nproc=4096 …"}
    other = "TasksMax= and LimitNPROC= in a systemd service; `* hard nproc 4096` in /etc/security/limits.conf"
    return f"End some, or raise it: {how.get(facts.container, other)}"
