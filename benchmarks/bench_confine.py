"""What confinement costs, beside the same without it, in one run and as an ordinary user.

    python benchmarks/bench_confine.py [--count N] [--seconds S] [--json OUT]

Times are medians in milliseconds of at least 30. `warm` is from call to result where a jail waits for the job
(the pool had a moment to refill), `back to back` is one call after the other in one thread, `cold` is with
every layer put on after the call, since a folder of the host is shown and no jail can wait for that.
Started as root it becomes an ordinary user first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ORDINARY = 47_001
PRINT = "print(1 + 1)"
NUMPY = "import numpy; print(numpy.arange(1000).sum())"
SYSCALLS = """
import ctypes, os, time
libc = ctypes.CDLL(None)
def once(call, n=200_000):
    begun = time.perf_counter()
    for _ in range(n): call()
    return (time.perf_counter() - begun) / n * 1e9
lseek = lambda: os.lseek(0, 0, 1)
getppid = os.getppid
print(min(once(getppid) for _ in range(5)), min(once(lseek) for _ in range(5)))
"""


def become_ordinary() -> None:
    """Root would be given up by the supervisor, which costs a little more; what users run is measured."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(ORDINARY, ORDINARY, ORDINARY)
        os.setresuid(ORDINARY, ORDINARY, ORDINARY)
        os.environ["HOME"] = "/tmp"
        os.chdir("/")


def median_ms(call: Callable[[], object], count: int, *, pause_s: float = 0.0) -> float:
    call()
    times = []
    for _ in range(count):
        time.sleep(pause_s)
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


def per_second(call: Callable[[], object], seconds: float) -> float:
    """From two threads, sustained."""
    end, counts = time.monotonic() + seconds, [0, 0]

    def work(number: int) -> None:
        while time.monotonic() < end:
            call()
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - begun)


def unconfined(source: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", source], capture_output=True, check=True)


def bubblewrap(folder: str) -> list[str]:
    """The same namespaces, system folders and one writable folder."""
    links = [
        word for name in ("bin", "lib", "lib64", "sbin") for word in ("--symlink", f"usr/{name}", f"/{name}")
    ]
    return [
        "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL",
        "--ro-bind", "/usr", "/usr", *links, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
        "--bind", folder, "/work", "--chdir", "/work", "/bin/true",
    ]  # fmt: skip


def warm_pss_mb(profile: str, source: str) -> float:
    """Proportional set size of the job's process that waits, in MB: the largest of those there are."""
    from fumehood import confine
    from fumehood.confine import api, procs

    confine.python(source, profile=profile)
    time.sleep(1.0)
    spawner = api._CLIENT._spawner
    if spawner is None:
        raise RuntimeError("no supervisor")
    sizes = []
    for pid in procs.children(spawner.pid):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text() if is_waiting_job(pid) else ""
        sizes += [int(line.split()[1]) / 1000 for line in text.splitlines() if line.startswith("Pss:")]
    confine.close()
    return max(sizes)


def is_waiting_job(pid: int) -> bool:
    """Two pid namespaces below ours, and not the first process of the last."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    numbers = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
    return len(numbers) == 3 and numbers[-1] != "1"


def rows(count: int, seconds: float) -> list[dict[str, object]]:
    from fumehood import confine

    found: list[dict[str, object]] = []

    def row(name: str, value: float, unit: str, beside: float | None = None, aim: str = "") -> None:
        ratio = round(value / beside, 3) if beside else None
        found.append({"name": name, "value": round(value, 3), "unit": unit, "ratio": ratio, "aim": aim})
        shown = f"{ratio:8.3f}" if ratio is not None else " " * 8
        print(f"{name:46}  {value:9.2f} {unit:4} {shown}  {aim}", flush=True)

    print(f"{'':46}  {'':9} {'':4}    ratio  aim")
    plain = median_ms(unconfined(PRINT), count)
    row("python -c, no sandbox", plain, "ms")
    warm = median_ms(lambda: confine.python(PRINT), count, pause_s=0.02)
    row("confine.python, warm", warm, "ms", plain, "0.10 or less")
    row("confine.python, back to back", median_ms(lambda: confine.python(PRINT), count), "ms", plain)
    plain = median_ms(unconfined(NUMPY), count)
    row("python -c with numpy, no sandbox", plain, "ms")
    numpy = lambda: confine.python(NUMPY, profile="python-data")  # noqa: E731
    row("confine.python with numpy, warm", median_ms(numpy, count, pause_s=0.02), "ms", plain, "0.10 or less")
    with tempfile.TemporaryDirectory(prefix="fumehood-bench-") as folder:
        cold = lambda: confine.run(["/bin/true"], profile="shell", workdir=folder)  # noqa: E731
        beside = None
        if shutil.which("bwrap"):
            beside = median_ms(lambda: subprocess.run(bubblewrap(folder), check=True), count)
            row("bubblewrap /bin/true, a folder", beside, "ms")
        else:
            print("bubblewrap is not installed: nothing to compare with (apt install bubblewrap)")
        row("confine.run /bin/true, a folder, cold", median_ms(cold, count), "ms", beside, "1.00 or less")
    true = lambda: confine.run(["/bin/true"], profile="shell")  # noqa: E731
    row("confine.run /bin/true, warm", median_ms(true, count, pause_s=0.02), "ms", beside)
    plain = per_second(unconfined(PRINT), seconds)
    row("python -c, two threads, sustained", plain, "/s")
    row(
        "confine.python, two threads, sustained",
        per_second(lambda: confine.python(PRINT), seconds),
        "/s",
        plain,
        "3.0 or more",
    )
    confine.close()
    row("memory of a waiting process", warm_pss_mb("python-offline", PRINT), "MB", aim="6 or less")
    row("memory of a waiting process with numpy", warm_pss_mb("python-data", NUMPY), "MB", aim="15 or less")
    plain_ns = [
        float(word)
        for word in subprocess.run(
            [sys.executable, "-c", SYSCALLS], capture_output=True, check=True, stdin=subprocess.DEVNULL
        ).stdout.split()
    ]
    inside_ns = [float(word) for word in confine.python(SYSCALLS).stdout.split()]
    row(
        "one more cost per system call",
        max(b - a for a, b in zip(plain_ns, inside_ns, strict=True)),
        "ns",
        aim="100 or less",
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=40, help="calls of each kind (default: 40)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each sustained load (default: 60)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    out = options.json.open("w") if options.json else None
    become_ordinary()
    document = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "rows": rows(options.count, options.seconds),
    }
    if out:
        with out:
            out.write(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
