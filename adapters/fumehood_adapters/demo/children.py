"""What the demo's child processes share: their leash, and the lines by which they tell how it goes."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

__all__ = ["INTERRUPTED", "hold_leash", "tell"]

INTERRUPTED = 130


def hold_leash() -> None:
    """End this process when its standard input ends: when whoever started it is gone, or lets go."""
    threading.Thread(target=_until_let_go, name="leash", daemon=True).start()


def _until_let_go() -> None:
    while os.read(0, 4096):
        pass
    os._exit(INTERRUPTED)


def tell(what: str, **said: Any) -> None:
    """One line of JSON to whoever started this process; it is short enough to be written in one piece."""
    line = json.dumps({"what": what, **said}) + "\n"
    sys.stdout.write(line)
    sys.stdout.flush()
