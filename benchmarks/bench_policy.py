"""What deciding costs: embedded in both ways, and beside opa_client against a local OPA; and many rules. For
many threads, and policies that are replaced meanwhile, see bench_reload.py.

    python benchmarks/bench_policy.py [--calls 2000] [--json FILE]

Prints a table; with --json also writes {"python", "kernel", "rows": [{"name", "n", "p50_ms", "p99_ms",
"min_ms"}], "ratios": {…}}. Compares with things measured in the same run; no verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench_guard import Row, measure

from fumehood.model import Pdp, Phase, PolicyInput
from fumehood.pdp import load_bundle, open_pdp
from fumehood.pdp.decision import decision_from

DOCUMENT = {
    "subject": {"type": "agent", "id": "support-bot", "properties": {"user": "alice", "roles": ["support"]}},
    "action": {
        "name": "execute_tool",
        "properties": {
            "args": {"order_id": "A-1", "amount_usd": 40},
            "digest": "hmac-sha256:0",
            "call_id": "c-1",
        },
    },
    "resource": {
        "type": "tool",
        "id": "issue_refund",
        "properties": {
            "definition_digest": "sha256:0",
            "runs": "in_process",
            "annotations": {"kind": "money", "target": ["order_id"]},
        },
    },
    "context": {
        "time": "2026-01-01T00:00:00.000Z",
        "session": {"id": "s-1", "prompt": "Refund $40 for order A-1"},
        "counters": {"session": {"issue_refund": {"calls": 0, "denied": 0}}, "windows": {"60": {"calls": 3}}},
        "provenance": {
            "args": {
                "/order_id": [{"origin": "user", "source": "prompt", "match": "token"}],
                "/amount_usd": [{"origin": "user", "source": "prompt", "match": "value"}],
            },
            "session_labels": [],
        },
        "normalised": {"paths": {}, "urls": {}, "argv": {}},
    },
}
RULES = (
    'permit if {{\n\tcall.tool == "t{tool}"\n\tcall.args.n < {number}\n}}',
    'deny contains {{"reason": "r{number}"}} if {{\n\tcall.tool == "t{tool}"\n\tcall.args.n > {number}\n}}',
)
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def decide(pdp: Pdp, document: dict[str, object]) -> Callable[[], object]:
    """From a dict to a Decision."""
    tool = document["resource"]["id"]  # type: ignore[index]
    return lambda: pdp.evaluate(PolicyInput(Phase.EXECUTE_TOOL, tool, _encode(document).encode()))


def about(tool: str) -> dict[str, object]:
    """A small document about *tool*."""
    action = {"name": "execute_tool", "properties": {"args": {"n": 3}}}
    resource = {"type": "tool", "id": tool, "properties": {"runs": "in_process", "annotations": {}}}
    return {**DOCUMENT, "action": action, "resource": resource}


def rules_of(folder: Path, *, rules: int, tools: int, packages: int) -> Path:
    """A folder of so many rules, each for one tool."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [RULES[n % 2].format(tool=n // 2 % tools, number=n) for n in range(rules)]
    for at in range(packages):
        head = f"package policies.p{at}\n\nimport data.fumehood.call\n\n"
        (folder / f"p{at}.rego").write_text(head + "\n\n".join(texts[at::packages]) + "\n")
    return folder


def refund_rows(calls: int) -> tuple[list[Row], dict[str, float]]:
    bundle, rows = load_bundle("refund"), []
    for isolation in ("thread", "worker"):
        pdp = open_pdp(bundle, isolation=isolation)
        rows.append(measure(f"dict to Decision, refund, {isolation}", decide(pdp, DOCUMENT), calls))
        pdp.close()
    with local_opa() as url:
        if url is None:
            return rows, {}
        server = open_pdp(bundle, url=url)
        rows.append(
            measure("dict to Decision, refund, OPA by our transport", decide(server, DOCUMENT), calls)
        )
        rows.append(measure("dict to Decision, refund, OPA by opa_client", opa_client(url), calls))
        server.close()
    theirs = float(rows[-1]["p50_ms"])  # type: ignore[arg-type]
    names = ("thread / opa_client, p50", "worker / opa_client, p50")
    return rows, {n: round(float(r["p50_ms"]) / theirs, 3) for n, r in zip(names, rows, strict=False)}  # type: ignore[arg-type]


def opa_client(url: str) -> Callable[[], object]:
    from opa_client import OpaClient

    host, _, port = url.removeprefix("http://").partition(":")
    client = OpaClient(host=host, port=int(port))
    ask = partial(client.query_rule, DOCUMENT, "fumehood.main", "decision")
    return lambda: decision_from(ask()["result"])


@contextmanager
def local_opa() -> Iterator[str | None]:
    """The URL of an OPA server, None where there is no opa binary."""
    binary = os.environ.get("FUMEHOOD_OPA") or shutil.which("opa")
    if binary is None:
        yield None
        return
    with tempfile.TemporaryFile() as log:
        command = [binary, "run", "--server", "--addr", "127.0.0.1:0", "--log-level", "info"]
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield f"http://{_address(log.fileno(), server.pid)}"
        finally:
            server.kill()
            server.wait()


def _address(log: int, pid: int) -> str:
    """Where it listens: the port that the process has open."""
    for _ in range(400):
        time.sleep(0.025)
        if b"Initializing server" not in os.pread(log, 1 << 16, 0):
            continue
        found = [os.readlink(f) for f in Path(f"/proc/{pid}/fd").iterdir() if f.is_symlink()]
        inodes = {m[1] for text in found if (m := re.match(r"socket:\[(\d+)\]", text))}
        for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == "0A" and fields[9] in inodes:
                return f"127.0.0.1:{int(fields[1].split(':')[1], 16)}"
    raise SystemExit("the OPA server did not start")


def rules_rows(folder: Path, calls: int) -> tuple[list[Row], dict[str, float]]:
    """Few rules and many, in turns, so that a busy host is busy for all of them."""
    asks: dict[str, Callable[[], object]] = {}
    for rules, tools, packages in ((10, 2, 1), (1000, 200, 20), (1000, 200, 1), (1000, 200, 200)):
        where = rules_of(folder / f"{rules}-{packages}", rules=rules, tools=tools, packages=packages)
        pdp = open_pdp(load_bundle([where]), isolation="thread")
        asks[f"{rules} rules, {tools} tools, {packages} packages, thread"] = decide(pdp, about("t1"))
    turns = [{name: measure(name, ask, calls // 20) for name, ask in asks.items()} for _ in range(20)]
    rows = [_middle([turn[name] for turn in turns]) for name in asks]
    few = float(rows[0]["p50_ms"])  # type: ignore[arg-type]
    many = {f"{r['name']} / 10 rules": round(float(r["p50_ms"]) / few, 2) for r in rows[1:]}  # type: ignore[arg-type]
    return rows, many


def _middle(turns: list[Row]) -> Row:
    """Of several measurements of one thing the medians."""
    numbers = ("p50_ms", "p99_ms", "min_ms")
    middle = {key: round(statistics.median(float(t[key]) for t in turns), 4) for key in numbers}  # type: ignore[arg-type]
    return {"name": turns[0]["name"], "n": sum(int(t["n"]) for t in turns), **middle}  # type: ignore[call-overload]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, ratios = refund_rows(options.calls)
    with tempfile.TemporaryDirectory(prefix="fumehood-bench-") as name:
        more, many = rules_rows(Path(name), options.calls)
        rows += more
    document = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "rows": rows,
        "ratios": {**ratios, **many},
    }
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    width = max(len(str(key)) for key in (*(r["name"] for r in rows), *ratios, *many))
    print(f"{'':{width}}  {'n':>6}  {'p50 ms':>9}  {'p99 ms':>9}")
    for row in rows:
        print(f"{row['name']!s:{width}}  {row['n']!s:>6}  {row['p50_ms']!s:>9}  {row['p99_ms']!s:>9}")
    for label, ratio in {**ratios, **many}.items():
        print(f"{label:{width}}  {ratio:>17}")


if __name__ == "__main__":
    main()
