"""Predicates that many attacks share. Each looks at the world outside, or for what only was planted there."""

from __future__ import annotations

from collections.abc import Callable

from escape import witness
from escape.model import Oracle, Run
from escape.scene import Scene
from escape.scene_listeners import arrived
from escape.scene_processes import ask


def leaks(scene: Scene, run: Run) -> bool:
    """The nonce came out: whoever wrote it had read what it was planted in."""
    return scene.nonce.encode() in run.stdout


def leaks_collected(scene: Scene, run: Run) -> bool:
    return scene.nonce.encode() in run.collected


def says(expected: Callable[[Scene], object]) -> Oracle:
    """It printed, as a line of its own, what only the host could tell it."""
    return lambda scene, run: str(expected(scene)).encode() in run.stdout.splitlines()


def mentions(expected: Callable[[Scene], object]) -> Oracle:
    """As `says`, anywhere in what it printed."""
    return lambda scene, run: bool(text := str(expected(scene))) and text.encode() in run.stdout


def found_which(scene: Scene, run: Run) -> bool:
    """It named the one of 4096 that exists, and only that."""
    return run.stdout.split() == [str(scene.kept["which"]).encode()]


def found_process(scene: Scene, run: Run) -> bool:
    """It named the hidden process, and did not simply name all numbers."""
    found = run.stdout.split()
    return str(scene.kept["decoy"].pid).encode() in found and len(found) < 900


def got_through(scene: Scene, run: Run) -> bool:
    """The token arrived at the listener."""
    return scene.token.encode() in arrived(scene)


def connected(scene: Scene, run: Run) -> bool:
    return arrived(scene) != b""


def exists(name: str) -> Oracle:
    return lambda scene, run: scene.path(name).is_symlink() or scene.path(name).exists()


def is_gone(name: str) -> Oracle:
    return lambda scene, run: not scene.path(name).exists()


def changed(name: str) -> Oracle:
    return lambda scene, run: scene.path(name).read_text() != "untouched"


def decoy_died(scene: Scene, run: Run) -> bool:
    return scene.kept["decoy"].poll() is not None


def decoy_changed(scene: Scene, run: Run) -> bool:
    return ask(scene, "memory") != scene.nonce


def holds(link: str) -> Oracle:
    """One of its processes has a descriptor that leads there, in the kernel's words."""
    return lambda scene, run: any(
        link in each for pid in witness.named(scene.tag) for each in witness.links(pid)
    )


def holds_socket(kind: str) -> Oracle:
    return lambda scene, run: any(kind in witness.socket_kinds(pid) for pid in witness.named(scene.tag))


def has_map(text: str, *, rights: str = "") -> Oracle:
    """One of its memory maps has *text* in its line, and exactly these *rights*."""

    def seen(scene: Scene, run: Run) -> bool:
        lines = [line for pid in witness.named(scene.tag) for line in witness.maps(pid)]
        return any(text in line and (not rights or line.split()[1] == rights) for line in lines)

    return seen


def differ(kind: str) -> Oracle:
    """Its processes are in different namespaces of that kind: one of them made its own."""
    return lambda scene, run: (
        len({witness.namespace(pid, kind) for pid in witness.named(scene.tag)} - {""}) > 1
    )


def ran_code(scene: Scene, run: Run) -> bool:
    """The code that was made at run time has run: it alone gives a thread this name."""
    return bool(witness.named(scene.facts["ran"]))


def in_status(name: str, wanted: Callable[[str], bool]) -> Oracle:
    return lambda scene, run: any(wanted(witness.field(pid, name)) for pid in witness.named(scene.tag))


def ask_name_changed(scene: Scene, run: Run) -> bool:
    """The decoy's host has another name in the decoy's own eyes."""
    return ask(scene, "name") == "owned-by-job"
