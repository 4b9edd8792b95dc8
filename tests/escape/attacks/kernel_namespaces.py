"""Getting the kernel to make namespaces, mounts and sockets that an ordinary program has no use for."""

from __future__ import annotations

from functools import partial
from typing import Final

from escape import witness
from escape.model import Attack, Run
from escape.oracles import differ, holds, holds_socket
from escape.scene import Scene

_attack = partial(Attack, kind="kernel surface", live=True)


def _mounted(scene: Scene, run: Run) -> bool:
    return any(scene.token in witness.text(pid, "mountinfo") for pid in witness.named(scene.tag))


def _other_root(scene: Scene, run: Run) -> bool:
    return any(witness.root(pid).endswith(scene.token) for pid in witness.named(scene.tag))


def _named_host(scene: Scene, run: Run) -> bool:
    return f"owned-{scene.token}".encode() in run.stdout


_STAY: Final = "pid = os.fork()\nif pid == 0:\n    {}\n    hold()\nhold_with(pid)"


def _own(flag: str) -> str:
    """A child in namespaces of its own, beside its parent in the old ones."""
    return _STAY.format(f"userns({flag})")


ATTACKS: Final = (
    _attack(
        id="kernel-user-namespace",
        tries="becomes root of a user namespace (unshare)",
        oracle=differ("user"),
        payload=_STAY.format("checked(libc.unshare(ctypes.c_int(NEWUSER)))"),
    ),
    _attack(
        id="kernel-user-namespace-clone",
        tries="starts a child in a user namespace (clone)",
        oracle=differ("user"),
        payload="""
sc('clone', NEWUSER | 17, 0, 0, 0, 0)
hold()
""",
    ),
    _attack(
        id="kernel-user-namespace-clone3",
        tries="the same by the call whose flags no filter can see (clone3)",
        oracle=differ("user"),
        payload="""
args = ctypes.create_string_buffer(struct.pack('=8Q', NEWUSER, 0, 0, 0, 17, 0, 0, 0), 64)
sc('clone3', args, 64)
hold()
""",
    ),
    _attack(
        id="kernel-network-namespace",
        tries="becomes root of a network, with its tables and filters",
        oracle=differ("net"),
        payload=_own("NEWNET"),
    ),
    _attack(
        id="kernel-mount-namespace",
        tries="gets mounts of its own",
        oracle=differ("mnt"),
        payload=_own("NEWNS"),
    ),
    _attack(
        id="kernel-ipc-namespace",
        tries="gets System V objects of its own",
        oracle=differ("ipc"),
        payload=_own("NEWIPC"),
    ),
    _attack(
        id="kernel-time-namespace",
        tries="gets clocks of its own for its children",
        oracle=differ("time_for_children"),
        payload=_own("NEWTIME"),
    ),
    _attack(
        id="kernel-cgroup-namespace",
        tries="gets a root of control groups of its own",
        oracle=differ("cgroup"),
        payload=_own("NEWCGROUP"),
    ),
    _attack(
        id="kernel-host-name",
        tries="renames the host that it sees",
        live=False,
        oracle=_named_host,
        payload="""
userns(NEWUTS)
socket.sethostname('owned-' + F['token'])
say(os.uname().nodename)
""",
    ),
    _attack(
        id="kernel-mount",
        tries="mounts a memory file system",
        oracle=_mounted,
        payload="""
userns(NEWNS)
mount(F['token'], '/tmp', 'tmpfs')
hold()
""",
    ),
    _attack(
        id="kernel-mount-api",
        tries="mounts by the newer calls (fsopen, fsmount, move_mount)",
        oracle=_mounted,
        payload="""
userns(NEWNS)
fd = sc('fsopen', b'tmpfs', 0)
sc('fsconfig', fd, 1, b'source', F['token'].encode(), 0)
sc('fsconfig', fd, 6, 0, 0, 0)
m = sc('fsmount', fd, 0, 0)
sc('move_mount', m, b'', -100, b'/tmp', 4)
hold()
""",
    ),
    _attack(
        id="kernel-file-system-context",
        tries="opens a context of a file system, whose parser has had overflows (CVE-2022-0185)",
        oracle=holds("fscontext"),
        payload="""
userns(NEWNS)
sc('fsopen', b'tmpfs', 0)
hold()
""",
    ),
    _attack(
        id="kernel-chroot",
        tries="changes its root",
        oracle=_other_root,
        needs=("work",),
        payload="""
userns()
os.mkdir(F['token'])
os.chroot(F['token'])
hold()
""",
    ),
    _attack(
        id="kernel-netlink-route",
        tries="talks to the kernel's routing tables (netlink)",
        oracle=holds_socket("NETLINK"),
        payload="""
s = socket.socket(16, 3, 0)
hold()
""",
    ),
    _attack(
        id="kernel-netlink-filter",
        tries="as root of a network, talks to its packet filter (nf_tables, CVE-2024-1086)",
        oracle=lambda scene, run: holds_socket("NETLINK")(scene, run) and differ("net")(scene, run),
        payload=_STAY.format("userns(NEWNET); s = socket.socket(16, 3, 12)"),
    ),
    _attack(
        id="kernel-packet-socket",
        tries="as root of a network, takes raw packets (AF_PACKET, CVE-2017-7308)",
        oracle=holds_socket("PACKET"),
        payload="""
userns(NEWNET)
s = socket.socket(17, 3, 0)
hold()
""",
    ),
    _attack(
        id="kernel-raw-socket",
        tries="as root of a network, makes packets of any kind (SOCK_RAW)",
        oracle=holds_socket("RAW"),
        payload="""
userns(NEWNET)
s = socket.socket(2, 3, 255)
hold()
""",
    ),
    _attack(
        id="kernel-xdp-socket",
        tries="as root of a network, shares memory with the driver (AF_XDP)",
        oracle=holds_socket("XDP"),
        payload="""
userns(NEWNET)
s = socket.socket(44, 3, 0)
hold()
""",
    ),
    _attack(
        id="kernel-udp-socket",
        tries="makes an Internet socket at all",
        oracle=holds_socket("UDP"),
        payload="""
s = socket.socket(2, 2)
hold()
""",
    ),
    _attack(
        id="kernel-datagram-pair",
        tries="makes a pair of sockets of a kind that can be pointed elsewhere",
        oracle=lambda scene, run: (
            "UNIX" in {k for p in witness.named(scene.tag) for k in witness.socket_kinds(p)}
        ),
        payload="""
s = socket.socketpair(socket.AF_UNIX, 2)
hold()
""",
    ),
)
