"""What is planted: another process of the same user."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from escape.scene import Scene, part

_DECOY = Path(__file__).with_name("decoy.py").read_text()


def _decoy(scene: Scene, *words: str) -> None:
    command = [sys.executable, "-I", "-S", "-c", _DECOY, str(scene.folder), *words]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"DECOY_SECRET": scene.nonce},
        start_new_session=True,
        text=True,
    )
    scene.owned.callback(_ended, process)
    assert process.stdin and process.stdout
    process.stdin.write(f"{scene.nonce}\n")
    process.stdin.flush()
    fields = process.stdout.readline().split()
    if not fields:
        raise RuntimeError("the decoy did not start")
    scene.kept |= {"decoy": process, "buffer": int(fields[0]), "decoy_fd": int(fields[1])}


def _ended(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()


def ask(scene: Scene, question: str) -> str:
    """What the decoy answers."""
    process = scene.kept["decoy"]
    process.stdin.write(question + "\n")
    process.stdin.flush()
    return str(process.stdout.readline().strip())


@part
def decoy(scene: Scene) -> None:
    """Another process of the same user, with the nonce in its memory and environment."""
    _decoy(scene)
    scene.facts |= {
        "decoy": scene.kept["decoy"].pid,
        "buffer": scene.kept["buffer"],
        "decoy_fd": scene.kept["decoy_fd"],
    }


@part
def hidden_decoy(scene: Scene) -> None:
    """A decoy of which the payload is told only in which thousand its number lies."""
    _decoy(scene)
    scene.facts["from"] = scene.kept["decoy"].pid // 1000 * 1000


@part
def argument_decoy(scene: Scene) -> None:
    """A decoy that was given the nonce as an argument."""
    _decoy(scene, scene.nonce)
    scene.facts["decoy"] = scene.kept["decoy"].pid


@part
def jailed_decoy(scene: Scene) -> None:
    """A decoy in namespaces of its own, with a memory file system that holds the nonce, and a listener."""
    scene.path("inner").mkdir()
    _decoy(scene, "namespaces")
    scene.facts |= {"decoy": scene.kept["decoy"].pid, "inner": str(scene.path("inner"))}
