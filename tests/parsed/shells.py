"""What bash really runs: the words of each command of a text, in a folder of its own, with nothing to run."""

from __future__ import annotations

import subprocess
from pathlib import Path


def run_by_bash(text: str, folder: Path) -> set[tuple[str, ...]] | None:
    """The words of every command that bash comes to run in *text*; None if bash refuses it.

    No program is found (PATH is empty), so that each name comes to a function that prints its words.
    """
    told = folder / "told"
    script = (
        "command_not_found_handle() { local said=RUN word; for word; do said+=$'\\x1f'$word; done; "
        "printf '%s\\x1e' \"$said\" >&9; }\n"
        f"{text}\n"
    )
    with told.open("ab") as out:
        done = subprocess.run(
            ["/bin/bash", "--norc", "--noprofile", "-c", f"exec 9>&{out.fileno()}\n{script}"],
            env={"PATH": "/nonexistent", "HOME": "/home/x", "LC_ALL": "C.UTF-8"},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=[out.fileno()],
            timeout=20,
            check=False,
        )
    if b"syntax error" in done.stderr or b"unexpected EOF" in done.stderr:
        return None
    runs = told.read_bytes().decode().split("\x1e")[:-1]
    return {tuple(run.split("\x1f")[1:]) for run in runs}
