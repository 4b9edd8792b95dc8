"""One probe in a child of its own: whether it works, as an errno."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import Final, NoReturn

PATIENCE_S: Final = 5


def errno_of(probe: Callable[[], object]) -> int:
    """The errno of *probe* in a child of its own."""
    read, write = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        return error.errno or errno.EAGAIN
    if not pid:
        os.close(read)
        _answer(write, probe)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        said = file.read()
    _, status = os.waitpid(pid, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else int(said or errno.EPROTO)


def _answer(write: int, probe: Callable[[], object]) -> NoReturn:
    """Say the errno, unless something ends this process first."""
    signal.alarm(PATIENCE_S)
    code = 0
    try:
        probe()
    except OSError as error:
        code = error.errno or errno.EPROTO
    except BaseException:  # noqa: BLE001 — said as a fault of the probe's own
        code = errno.EPROTO
    os.write(write, str(code).encode())
    os._exit(0)


def require(holds: bool) -> None:
    """The kernel said yes and did not do it."""
    if not holds:
        raise OSError(errno.EPROTO, "no effect")
