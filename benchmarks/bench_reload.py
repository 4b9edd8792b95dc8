"""What replacing policies costs, and what many threads at once do: how long until a thousand changed rules
decide, what calls wait meanwhile (and while the other workers follow) beside the same calls without it, how
much more eight threads decide than one, beside a loop in Python that takes as long as a decision (the
interpreter hands itself around among threads, whatever they do), and whether many decisions are all right and
cost no memory.

    python benchmarks/bench_reload.py [--reloads 9] [--decisions 20000] [--json FILE]

Prints a table; with --json also writes {"python", "kernel", "rows": [{"name", "n", "p50_ms", "p99_ms",
"min_ms", "max_ms"}], "ratios": {…}, "decisions_per_s": {…}, "many": [{"isolation", "decisions", "right",
"wrong", "errors", "rss_kb"}]}. What is compared is done in turns, so that a busy host is busy for both.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench_policy import DOCUMENT, about, decide, rules_of

from fumehood.errors import PdpError
from fumehood.model import Pdp
from fumehood.pdp import load_bundle, open_pdp
from fumehood.pdp.reload import ReloadablePdp
from fumehood.pdp.workers import WorkerPdp

Row = dict[str, object]
Timed = tuple[float, float]  # when a call began, and how many milliseconds it took
THREADS = 8
FOLLOW_S = 0.05  # until the second worker has the new policies too
PAUSE_S = 0.6  # until what a reload leaves behind is done: the next check is prepared a second later


# --- replacing policies ------------------------------------------------------------------------------


def reload_rows(folder: Path, packages: int, reloads: int) -> list[Row]:
    """One file of *packages* changes, again and again, while somebody calls; and as long without a change."""
    where = rules_of(folder / f"reload-{packages}", rules=1000, tools=200, packages=packages)
    pdp = ReloadablePdp([where], open_pdp)
    with calling(pdp) as calls:
        took, busy, quiet = list[float](), list[Timed](), list[Timed]()
        for number in range(reloads):
            pdp.prepare()
            time.sleep(PAUSE_S)
            begun = time.perf_counter()
            _reload(pdp, where, number)
            took.append((time.perf_counter() - begun) * 1000)
            time.sleep(FOLLOW_S)
            busy.append((begun, time.perf_counter()))
            time.sleep(PAUSE_S)
            begun = time.perf_counter()
            time.sleep(busy[-1][1] - busy[-1][0])
            quiet.append((begun, time.perf_counter()))
    pdp.close()
    slowest = _slowest(calls, busy), _slowest(calls, quiet)
    name = f"1,000 rules in {packages} file{'s' if packages > 1 else ''}"
    return [
        _row(f"reload of {name}", took),
        _row("  a call meanwhile", _during(calls, busy)),
        _row("  the same calls without it", _during(calls, quiet)),
        _row("  the slowest call of each reload", slowest[0]),
        _row("  the slowest of as long without it", slowest[1]),
        _row("  what the reload adds to it", [one - other for one, other in zip(*slowest, strict=True)]),
    ]


@contextmanager
def calling(pdp: Pdp) -> Iterator[list[Timed]]:
    """Somebody who calls once a millisecond, and how long each call takes."""
    ask, calls, ended = decide(pdp, about("t1")), list[Timed](), threading.Event()

    def run() -> None:
        while not ended.is_set():
            begun = time.perf_counter()
            ask()
            calls.append((begun, (time.perf_counter() - begun) * 1000))
            time.sleep(0.001)

    caller = threading.Thread(target=run)
    caller.start()
    try:
        yield calls
    finally:
        ended.set()
        caller.join()


def _during(calls: list[Timed], windows: list[tuple[float, float]]) -> list[float]:
    return [took for begun, took in calls if any(start <= begun <= end for start, end in windows)]


def _slowest(calls: list[Timed], windows: list[tuple[float, float]]) -> list[float]:
    return [max(_during(calls, [window]), default=0.0) for window in windows]


def _reload(pdp: ReloadablePdp, where: Path, number: int) -> None:
    text = (where / "p0.rego").read_text().partition("\n# ")[0]
    (where / "p0.rego").write_text(f"{text}\n# {number}\n")
    pdp.reload()


# --- many threads ------------------------------------------------------------------------------------


class Crowd:
    """Eight threads that stay, each with its engine, and decide as many at a time as they are told."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask, self._changed = ask, threading.Condition()
        self._turn, self._wanted, self._done = 0, 0, 0
        self._counts, self._is_over = [0] * THREADS, threading.Event()
        for place in range(THREADS):
            threading.Thread(target=self._run, args=(place,), daemon=True).start()

    def rate(self, threads: int, for_s: float) -> float:
        """Decisions for each second of *threads* together."""
        self._is_over.clear()
        begun = time.perf_counter()
        with self._changed:
            self._turn, self._wanted, self._done = self._turn + 1, threads, 0
            self._changed.notify_all()
        time.sleep(for_s)
        self._is_over.set()
        with self._changed:
            self._changed.wait_for(lambda: self._done == THREADS)
        return sum(self._counts) / (time.perf_counter() - begun)

    def _run(self, place: int) -> None:
        self._ask()
        seen = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda seen=seen: self._turn > seen)  # type: ignore[misc]
                seen, is_wanted = self._turn, place < self._wanted
            count = 0
            while is_wanted and not self._is_over.is_set():
                self._ask()
                count += 1
            with self._changed:
                self._counts[place] = count
                self._done += 1
                self._changed.notify_all()


def rates(isolation: str) -> tuple[dict[str, float], dict[str, float]]:
    """One thread and eight in turns: calls for each second, and the ratio."""
    pdp = open_pdp(load_bundle("refund"), isolation=isolation)  # type: ignore[arg-type]
    ask = decide(pdp, DOCUMENT)
    crowds = {isolation: Crowd(ask)}
    if isolation == "thread":
        crowds[f"Python loop of {round(_takes(ask) * 1e6)} µs"] = Crowd(_loop(_takes(ask)))
    for crowd in crowds.values():
        crowd.rate(THREADS, 0.3)
    turns = [
        {name: (crowd.rate(1, 0.4), crowd.rate(THREADS, 0.4)) for name, crowd in crowds.items()}
        for _ in range(7)
    ]
    pdp.close()
    found, ratios = dict[str, float](), dict[str, float]()
    for name in crowds:
        pairs = [turn[name] for turn in turns]
        one, eight = (round(statistics.median(each), 1) for each in zip(*pairs, strict=True))
        found |= {f"{name}, 1 thread": one, f"{name}, {THREADS} threads": eight}
        ratio = round(statistics.median(many / single for single, many in pairs), 3)
        ratios[f"{name}, {THREADS} threads / 1 thread"] = ratio
    return found, ratios


def _takes(ask: Callable[[], object]) -> float:
    """Seconds of one call, the median."""
    times = []
    for _ in range(301):
        begun = time.perf_counter()
        ask()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _loop(for_s: float) -> Callable[[], object]:
    """What takes so long and is nothing but Python."""

    def count(to: int) -> int:
        total = 0
        for number in range(to):
            total += number
        return total

    to = round(1000 * for_s / _takes(lambda: count(1000)))
    return lambda: count(to)


def many(isolation: str, decisions: int) -> Row:
    """That many by eight threads: how many were wrong, how many were none (an error is a deny; a busy host
    may be too late), and the memory before, half way and at the end."""
    pdp = open_pdp(load_bundle("refund"), isolation=isolation)  # type: ignore[arg-type]
    pids = [os.getpid(), *(pdp.pids() if isinstance(pdp, WorkerPdp) else ())]
    right = decide(pdp, DOCUMENT)()
    said, memory = Counter[str](), [_resident_kb(pids)]
    for _ in range(2):
        said += _said(decide(pdp, DOCUMENT), right, decisions // 2)
        memory.append(_resident_kb(pids))
    pdp.close()
    counts = {key: said[key] for key in ("right", "wrong", "errors")}
    return {"isolation": isolation, "decisions": said.total(), **counts, "rss_kb": memory}


def _said(ask: Callable[[], object], right: object, decisions: int) -> Counter[str]:
    found = [Counter[str]() for _ in range(THREADS)]

    def run(place: int) -> None:
        for _ in range(place, decisions, THREADS):
            try:
                found[place]["right" if ask() == right else "wrong"] += 1
            except PdpError:
                found[place]["errors"] += 1

    threads = [threading.Thread(target=run, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(found, Counter[str]())


def _resident_kb(pids: list[int]) -> list[int]:
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return [int(text.partition("VmRSS:")[2].split()[0]) for text in texts]


def _row(name: str, times: list[float]) -> Row:
    times = sorted(times) or [0.0]
    return {
        "name": name,
        "n": len(times),
        "p50_ms": round(statistics.median(times), 4),
        "p99_ms": round(times[min(len(times) - 1, int(len(times) * 0.99))], 4),
        "min_ms": round(times[0], 4),
        "max_ms": round(times[-1], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--reloads", type=int, default=9)
    parser.add_argument("--decisions", type=int, default=20_000, help="1000000 for what the soak test does")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    gc.collect()
    gc.freeze()  # a collection of all that this program has loaded takes 20 to 50 ms, whenever it comes
    with tempfile.TemporaryDirectory(prefix="fumehood-bench-") as name:
        rows = [row for files in (20, 1) for row in reload_rows(Path(name), files, options.reloads)]
    each = {isolation: rates(isolation) for isolation in ("thread", "worker")}
    document = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "rows": rows,
        "ratios": {label: ratio for _, ratios in each.values() for label, ratio in ratios.items()},
        "decisions_per_s": {label: rate for found, _ in each.values() for label, rate in found.items()},
        "many": [many(isolation, options.decisions) for isolation in each],
    }
    if options.json:
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    _print(document)


def _print(document: dict[str, object]) -> None:
    print(f"{'':38}  {'n':>6}  {'p50 ms':>9}  {'p99 ms':>9}  {'max ms':>9}")
    for row in document["rows"]:  # type: ignore[attr-defined]
        print(f"{row['name']:38}  {row['n']:>6}  {row['p50_ms']:>9}  {row['p99_ms']:>9}  {row['max_ms']:>9}")
    for label, rate in document["decisions_per_s"].items():  # type: ignore[attr-defined]
        print(f"{label + ', decisions/s':38}  {rate:>17}")
    for label, ratio in document["ratios"].items():  # type: ignore[attr-defined]
        print(f"{label:38}  {ratio:>17}")
    for one in document["many"]:  # type: ignore[attr-defined]
        said = f"{one['wrong']} wrong, {one['errors']} errors"
        memory = " → ".join(map(str, one["rss_kb"]))
        print(f"{one['decisions']} decisions by 8 threads, {one['isolation']}: {said}, resident kB {memory}")


if __name__ == "__main__":
    main()
