"""The application that is shot at: runs batches of jobs of every kind at once, and says how each call ended.

Run as: confining.py TIER MARK FOLDER. For each line on its standard input it runs a batch and answers with
one line of JSON for each call and an empty line. MARK is in the command line of every process that a job
starts, so that they are found again whatever they do.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fumehood import confine
from fumehood.confine import Spec
from fumehood.confine.api import _CLIENT
from fumehood.errors import ConfinementError

PATIENCE_S = 5.0
DAEMONS = (
    "(setsid sh -c 'sleep {mark} & sleep {mark}' &) ; (sleep {mark} &) ; sleep 0.15; echo $(setsid echo 42)"
)
FORKS = """
import os, subprocess, sys, time
subprocess.Popen(["sleep", sys.argv[1]], start_new_session=True)
for _ in range(3):
    if not os.fork():
        os.setsid()
        os.fork()
        os.execvp("sleep", ["sleep", sys.argv[1]])
time.sleep(0.1)
print(42)
"""
STREAMS = "import time\nfor n in range(200): print('x' * 500, flush=True)\ntime.sleep(0.05)\nprint(42)"
Kind = Callable[["Batch"], confine.Outcome]


class Batch:
    """What all jobs of a batch share."""

    def __init__(self, tier: str, mark: str, folder: Path) -> None:
        self.tier, self.mark, self.folder = tier, mark, folder
        self._lock = threading.Lock()

    def call(self, name: str, kind: Kind) -> None:
        began = time.monotonic()
        try:
            outcome = kind(self)
            ended = [outcome.exit.kind, outcome.exit.code]
            is_right = not outcome.exit.is_success or outcome.stdout.endswith(b"42\n")
        except ConfinementError as error:
            ended, is_right = ["refused", str(error)], True
        self.say(job=name, ended=ended, is_right=is_right, took_s=time.monotonic() - began)

    def say(self, **fields: object) -> None:
        with self._lock:
            print(json.dumps(fields), flush=True)

    def python(self, source: str, **options: object) -> confine.Outcome:
        return confine.python(source, tier=self.tier, timeout_s=PATIENCE_S, **options)

    def run(self, argv: list[str], **options: object) -> confine.Outcome:
        return confine.run(argv, tier=self.tier, timeout_s=PATIENCE_S, profile="shell", **options)


def computes(batch: Batch) -> confine.Outcome:
    return batch.python("print(6 * 7)")


def sleeps(batch: Batch) -> confine.Outcome:
    return batch.python("import time; time.sleep(0.2); print(42)")


def forks(batch: Batch) -> confine.Outcome:
    return batch.python(FORKS, argv=[batch.mark])


def daemonises(batch: Batch) -> confine.Outcome:
    return batch.run(["sh", "-c", DAEMONS.format(mark=batch.mark)])


def works_in_a_folder(batch: Batch) -> confine.Outcome:
    return batch.run(["sh", "-c", "echo 42 > made; sleep 0.1; cat made"], workdir=str(batch.folder))


def leaves_artifacts(batch: Batch) -> confine.Outcome:
    outcome = batch.python("open('a.txt', 'w').write('42'); print(42)", artifacts=["*.txt"])
    if outcome.exit.is_success:
        assert [artifact.body for artifact in outcome.artifacts] in ([b"42"], [])
    return outcome


def streams(batch: Batch) -> confine.Outcome:
    pieces: list[bytes] = []
    outcome = batch.python(STREAMS, on_output=lambda _, piece: pieces.append(piece))
    if outcome.exit.is_success:
        assert b"".join(pieces) == outcome.stdout
    return outcome


def is_observed(batch: Batch) -> confine.Outcome:
    source = "import os\ntry: os.system('true'); open('/etc/shadow')\nexcept OSError: print(42)"
    return batch.python(source, profile="model-loader")


def is_stopped(batch: Batch) -> confine.Outcome:
    job = confine.start(Spec(argv=["sleep", batch.mark], profile="shell", tier=batch.tier, timeout_s=60))
    threading.Timer(random.uniform(0.0, 0.2), job.kill).start()
    return job.wait()


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        computes,
        sleeps,
        forks,
        daemonises,
        works_in_a_folder,
        leaves_artifacts,
        streams,
        is_observed,
        is_stopped,
    )
}


def run_batch(batch: Batch, *, is_crowded: bool) -> None:
    names = [*random.sample(sorted(KINDS), 6), *["sleeps"] * (70 if is_crowded else 0)]
    threads = [threading.Thread(target=batch.call, args=(name, KINDS[name])) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(tier: str, mark: str, folder: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1024), min(hard, 1024)))
    batch = Batch(tier, mark, Path(folder))
    for line in sys.stdin:
        if line == "begin\n":
            batch.call("first", computes)
            batch.say(supervisor=_CLIENT._spawner.pid if _CLIENT._spawner else 0)
        else:
            run_batch(batch, is_crowded=line == "crowd\n")
        print(flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
