"""Where an attack is tried: without any sandbox, in bubblewrap, and in both tiers of ours."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from escape import witness
from escape.model import Attack, Run, Verdict
from escape.scene import Scene, made

#: Not a place to be: the tier full with its filter open, so that something must get through.
UNFILTERED: Final = "full without the filter"
_INSIDE: Final = Path(__file__).with_name("inside.py").read_text()
_LOOK_S: Final = 0.01
_PYTHON: Final = os.path.realpath(sys.executable)


def bubblewrap() -> str | None:
    return shutil.which("bwrap")


def attempt(attack: Attack, place: str, *, terminal: int, master: int) -> Verdict:
    """Try *attack* in *place* and say what an observer outside saw of it.

    In the open once is enough: on a busy machine it may take three tries.
    """
    verdict = _once(attack, place, terminal=terminal, master=master)
    for _ in range(2 if place == "plain" else 0):
        verdict = verdict if verdict.through else _once(attack, place, terminal=terminal, master=master)
    return verdict


def _once(attack: Attack, place: str, *, terminal: int, master: int) -> Verdict:
    begun = time.monotonic()
    with made(attack.needs, terminal=terminal, master=master) as scene:
        if scene.nonce in json.dumps(scene.facts):
            raise RuntimeError(f"{attack.id}: the payload is told what it should find out")
        try:
            if attack.before:
                _run(attack, scene, place, attack.before)
            through, run = _run(attack, scene, place, attack.payload)
        finally:
            for name in (scene.tag, scene.facts["ran"]):
                witness.end(name)
    started = isinstance(attack.payload, tuple) or scene.facts["hello"].encode() in run.stderr
    return Verdict(through, started, _detail(run), time.monotonic() - begun)


def _detail(run: Run) -> str:
    lines = run.stderr.decode(errors="replace").strip().splitlines()
    return run.refused or f"{run.ended}: {lines[-1] if len(lines) > 1 else ''}"


def _run(attack: Attack, scene: Scene, place: str, payload: str | tuple[str, ...]) -> tuple[bool, Run]:
    way = {"plain": _plain, "bubblewrap": _bubblewrap}.get(place, _confined)
    if isinstance(payload, tuple):
        source, argv = None, [word.format(**scene.facts) for word in payload]
    else:
        source, argv = f"{_INSIDE}\n{payload}", [json.dumps(scene.facts)]
    return way(attack, scene, place, source, argv)


def _is_seen(attack: Attack, scene: Scene, run: Run) -> bool:
    return attack.oracle(scene, run)


def _collected(folder: Path | None, patterns: tuple[str, ...]) -> bytes:
    """As an unwary caller takes files home: by opening them."""
    found = [p for pattern in patterns for p in (folder.glob(pattern) if folder else ())]
    bodies = []
    for path in found:
        with contextlib.suppress(OSError):
            bodies.append(path.read_bytes())
    return b"\n".join(bodies)


# --- without us --------------------------------------------------------------------------------------


def _plain(attack: Attack, scene: Scene, place: str, source: str | None, argv: list[str]) -> tuple[bool, Run]:
    command = argv if source is None else [_PYTHON, "-I", "-S", "-c", source, *argv]
    return _watched(attack, scene, command, cwd=scene.work)


def _bubblewrap(
    attack: Attack, scene: Scene, place: str, source: str | None, argv: list[str]
) -> tuple[bool, Run]:
    words = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    words += ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for name in ("bin", "sbin", "lib", "lib64", "lib32"):
        if os.path.islink(f"/{name}"):
            words += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
        elif os.path.isdir(f"/{name}"):
            words += ["--ro-bind", f"/{name}", f"/{name}"]
    if not _PYTHON.startswith("/usr/"):
        words += ["--ro-bind", sys.base_prefix, sys.base_prefix]
    words += [word for path in scene.read for word in ("--ro-bind", path, path)]
    if scene.work:
        words += ["--bind", str(scene.work), str(scene.work), "--chdir", str(scene.work)]
    else:
        words += ["--dir", "/tmp/work", "--chdir", "/tmp/work"]
    words += ["--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/tmp"]
    command = argv if source is None else [_PYTHON, "-I", "-S", "-c", source, *argv]
    return _watched(attack, scene, [*words, "--", *command], cwd=scene.folder)


def _watched(attack: Attack, scene: Scene, command: list[str], *, cwd: Path | None) -> tuple[bool, Run]:
    with contextlib.ExitStack() as owned:
        if cwd is None:
            cwd = Path(tempfile.mkdtemp(prefix="fh-plain-"))
            owned.callback(shutil.rmtree, cwd, ignore_errors=True)
        out, err = (owned.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        streams = (scene.terminal, scene.terminal) if attack.on_terminal else (subprocess.DEVNULL, out)
        process = subprocess.Popen(
            command,
            stdin=streams[0],
            stdout=streams[1],
            stderr=err,
            cwd=cwd,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", **scene.env},
            pass_fds=tuple(scene.inherited),
        )

        def so_far(ended: str = "", collected: bytes = b"") -> Run:
            return Run(_contents(out), _contents(err), collected, ended)

        patience_s = attack.timeout_s * 5  # nothing else ends it; on a busy machine it may be slow
        seen = _until_seen(attack, scene, lambda: process.poll() is not None, so_far, patience_s)
        ended = f"exited {process.returncode}" if process.poll() is not None else "still running"
        if not seen:
            run = so_far(ended, _collected(scene.work, attack.collect))
            seen = _is_seen(attack, scene, run)
        witness.end(scene.tag)
        process.kill()
        process.wait()
        return seen, so_far(ended)


def _contents(file: Any) -> bytes:
    return os.pread(file.fileno(), 1 << 28, 0)


def _until_seen(
    attack: Attack,
    scene: Scene,
    has_ended: Callable[[], bool],
    so_far: Callable[[], Run],
    patience_s: float,
) -> bool:
    """True as soon as the oracle says so; False at the end of the run, or when its time is over."""
    until = time.monotonic() + patience_s
    while not has_ended() and time.monotonic() < until:
        if attack.live and _is_seen(attack, scene, so_far()):
            return True
        time.sleep(_LOOK_S)
    return False


# --- in both tiers of ours ---------------------------------------------------------------------------


def _confined(
    attack: Attack, scene: Scene, place: str, source: str | None, argv: list[str]
) -> tuple[bool, Run]:
    from fumehood import confine
    from fumehood.errors import ConfinementError

    tier, _, profile = place.partition(" as ")
    words: dict[str, Any] = {"argv": argv} if source is None else {"source": source, "args": argv}
    spec = confine.Spec(
        **words,
        profile=_unfiltered(attack.profile) if place == UNFILTERED else profile or attack.profile,
        tier="full" if place == UNFILTERED else tier,
        workdir=scene.work,
        timeout_s=attack.timeout_s,
        read=scene.read,
        limits=attack.limits,
        artifacts=attack.collect,
    )
    with _callers_environment(scene.env), _filter_open() if place == UNFILTERED else contextlib.nullcontext():
        try:
            job = confine.start(spec)
            seen = _until_seen(attack, scene, lambda: _is_over(job), Run, attack.timeout_s)
            if seen:
                job.kill()
            outcome = job.wait()
        except ConfinementError as error:
            return False, Run(refused=f"refused: {error}")
    collected = b"\n".join(file.body for file in outcome.artifacts)
    ended = f"{outcome.exit.kind} {outcome.exit.code}"
    run = Run(outcome.stdout, outcome.stderr, collected, ended)
    return seen or _is_seen(attack, scene, run), run


@contextlib.contextmanager
def _callers_environment(more: dict[str, str]) -> Iterator[None]:
    os.environ.update(more)
    try:
        yield
    finally:
        for name in more:
            os.environ.pop(name, None)


def _unfiltered(profile: str) -> Any:
    """Another name, so that nothing that was prepared for the profile itself is used."""
    from fumehood.confine.profile import resolve

    return resolve(profile).model_copy(update={"name": "unfiltered"})


@contextlib.contextmanager
def _filter_open() -> Iterator[None]:
    """A filter that lets everything pass, in place of each that would be compiled."""
    from fumehood.confine import prepare

    kept = prepare.compile_filter
    prepare.compile_filter = lambda spec: struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)  # type: ignore[assignment]
    try:
        yield
    finally:
        prepare.compile_filter = kept


def _is_over(job: Any) -> bool:
    try:
        job.wait(0.0)
    except TimeoutError:
        return False
    return True
