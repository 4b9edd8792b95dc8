"""Which lines of the policies the tests evaluate, in the shape of `opa test --coverage`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fumehood.canonical import JSON
from fumehood.pdp.syntax import Module

__all__ = ["Coverage", "coverage_of"]


@dataclass(frozen=True, slots=True)
class FileCoverage:
    """One file: the lines that were evaluated and those that were not, 1-based. Other lines hold no code."""

    path: str
    covered: tuple[int, ...]
    missed: tuple[int, ...]

    @property
    def percent(self) -> float:
        return _percent(len(self.covered), len(self.missed))

    def as_json(self) -> dict[str, JSON]:
        said: dict[str, JSON] = {"coverage": self.percent}
        if self.covered:
            said |= {"covered": _ranges(self.covered), "covered_lines": len(self.covered)}
        if self.missed:
            said |= {"not_covered": _ranges(self.missed), "not_covered_lines": len(self.missed)}
        return said

    def missing(self) -> str:
        """The lines that were not evaluated, as `3-5, 9`."""
        spans = list(_spans(self.missed))
        return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


@dataclass(frozen=True, slots=True)
class Coverage:
    """All policy files; tests and the library do not count."""

    files: tuple[FileCoverage, ...]

    @property
    def percent(self) -> float:
        """0 to 100, of all lines together."""
        return _percent(sum(len(f.covered) for f in self.files), sum(len(f.missed) for f in self.files))

    def as_json(self) -> dict[str, JSON]:
        return {
            "files": {file.path: file.as_json() for file in self.files},
            "covered_lines": sum(len(f.covered) for f in self.files),
            "not_covered_lines": sum(len(f.missed) for f in self.files),
            "coverage": self.percent,
        }


def coverage_of(reports: Iterable[str], modules: Sequence[Module], *, known: str) -> Coverage:
    """What several runs evaluated together, of the files of *modules*; *known* is a report that names the
    lines that each of them has."""
    covered: dict[str, set[int]] = {module.file.path: set() for module in modules}
    all_lines = {module.file.path: _starts(module) for module in modules}
    for file in json.loads(known)["files"]:
        if file["path"] in covered:
            all_lines[file["path"]] = {*file["covered"], *file["not_covered"]}
    for report in reports:
        for file in json.loads(report)["files"]:
            if file["path"] in covered:
                covered[file["path"]] |= set(file["covered"])
                all_lines[file["path"]] |= {*file["covered"], *file["not_covered"]}
    return Coverage(
        tuple(
            FileCoverage(path, tuple(sorted(covered[path])), tuple(sorted(all_lines[path] - covered[path])))
            for path in sorted(covered)
        )
    )


def _starts(module: Module) -> set[int]:
    """Where its rules begin: all that is known of a file of functions only, of which nothing can be asked."""
    return {module.encoded[: rule.start].count(b"\n") + 1 for rule in module.rules}


def _percent(covered: int, missed: int) -> float:
    """Rounded down: 100 means that nothing is missing."""
    return int(covered * 10_000 / (covered + missed)) / 100 if covered + missed else 100.0


def _ranges(lines: Iterable[int]) -> list[JSON]:
    return [{"start": {"row": first}, "end": {"row": last}} for first, last in _spans(lines)]


def _spans(lines: Iterable[int]) -> Iterator[tuple[int, int]]:
    first = last = 0
    for line in lines:
        if first and line != last + 1:
            yield first, last
        first = line if not first or line != last + 1 else first
        last = line
    if first:
        yield first, last
