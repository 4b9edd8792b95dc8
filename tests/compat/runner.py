"""Runs tests of CPython's and writes down how each ended, line by line: what hangs is the last one started.

It runs inside the jail and outside of it, by any interpreter, and imports nothing of ours.

    python runner.py RESULTS EXCLUDED NAME...     EXCLUDED: patterns, one a line
"""

from __future__ import annotations

import faulthandler
import fnmatch
import json
import sys
import unittest

_LONGEST_S = 30  # then it hangs, and the process ends


class Results(unittest.TestResult):
    """Every test by its full name: passed, skipped, failed."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._file = open(path, "w", buffering=1)

    def say(self, test: unittest.TestCase, how: str, why: str = "") -> None:
        self._file.write(json.dumps([name_of(test), how, why[-1500:]]) + "\n")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.say(test, "started")
        faulthandler.dump_traceback_later(_LONGEST_S, exit=True)

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.say(test, "passed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.say(test, "skipped", reason)

    def addExpectedFailure(self, test: unittest.TestCase, error: object) -> None:
        self.say(test, "passed")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self.say(test, "failed", "unexpected success")

    def addFailure(self, test: unittest.TestCase, error: object) -> None:
        self.say(test, "failed", self._exc_info_to_string(error, test))  # type: ignore[attr-defined]

    addError = addFailure

    def addSubTest(self, test: unittest.TestCase, subtest: object, error: object) -> None:
        if error is not None:
            self.addFailure(test, error)


def name_of(test: object) -> str:
    """As `python -m unittest` takes it; what could not be imported by its module's name."""
    name = test.id() if isinstance(test, unittest.TestCase) else str(test)
    for noise in ("unittest.loader._FailedTest.", "unittest.loader.ModuleSkipped."):
        name = name.removeprefix(noise)
    return name.removeprefix("test.")


def flat(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    found = []
    for test in suite:
        found += flat(test) if isinstance(test, unittest.TestSuite) else [test]
    return found


def kept(suite: unittest.TestSuite, excluded: list[str]) -> unittest.TestSuite:
    """The suite without excluded tests, in the grouping that class and module fixtures need."""
    left = unittest.TestSuite()
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            left.addTest(kept(test, excluded))
        elif not any(fnmatch.fnmatchcase(name_of(test), pattern) for pattern in excluded):
            left.addTest(test)
    return left


def say_that_unix_sockets_cannot_be_bound() -> None:
    """Whole modules ask for that while they are imported; told so, they skip only what needs one."""
    from test.support import socket_helper

    if hasattr(socket_helper, "_bind_nix_socket_error"):
        socket_helper._bind_nix_socket_error = OSError("the filter refuses it")


def main(path: str, excluded: str, *names: str) -> None:
    say_that_unix_sockets_cannot_be_bound()
    results = Results(path)
    loader = unittest.TestLoader()
    for name in names:
        kept(loader.loadTestsFromName(f"test.{name}"), excluded.split("\n")).run(results)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
