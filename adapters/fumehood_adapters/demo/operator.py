"""The person, as a script: a process of its own that decides through the public command line.

Run as a child process of the demo, beside the agents (a process may not decide its own descendants'
requests). Its argument is a JSON object: `ledger`, and `reasons`, by the amount that a request asks for.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from fumehood_adapters.demo.children import hold_leash, tell

__all__ = ["main"]

COMMAND = (sys.executable, "-P", "-c", "from fumehood.cli import main; main()")
PAUSE_S = 0.4
_OTHERWISE = "Nobody asked for this."


def main() -> None:
    hold_leash()
    given = json.loads(sys.argv[1])
    while True:
        for request in _pending(given["ledger"]):
            _deny(request, given["ledger"], given["reasons"])
        time.sleep(PAUSE_S)


def _pending(ledger: str) -> list[dict[str, Any]]:
    found = _fumehood("approvals", "ls", "--json", "--ledger", ledger)
    return list(json.loads(found.stdout)["approvals"]) if found.returncode == 0 else []


def _deny(request: Mapping[str, Any], ledger: str, reasons: Mapping[str, str]) -> None:
    reason = reasons.get(f"{request['args'].get('amount_usd', 0):g}", _OTHERWISE)
    tell("decides", id=request["id"], reason=reason)
    done = _fumehood("approvals", "deny", request["id"], "--reason", reason, "--ledger", ledger)
    if done.returncode:
        tell("text", text=f"it answered {done.returncode}: {done.stderr[-500:]}")


def _fumehood(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


if __name__ == "__main__":
    main()
