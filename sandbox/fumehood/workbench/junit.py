"""Test results as JUnit XML, as CI systems read it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from xml.sax.saxutils import escape, quoteattr

from fumehood.display import inert
from fumehood.pdp.rego_tests import TestResult

__all__ = ["junit_xml"]

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAGS = {"fail": "failure", "error": "error", "skip": "skipped"}


def junit_xml(results: Sequence[TestResult]) -> str:
    """A `testsuites` document: one suite for each file."""
    suites = [
        _suite(file, list(rows)) for file, rows in groupby(sorted(results, key=_place), key=lambda r: r.file)
    ]
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    return f"{head}\n<testsuites{_counts(results)}>\n{''.join(suites)}</testsuites>\n"


def _place(result: TestResult) -> tuple[str, int, str]:
    return result.file, result.line, result.name


def _suite(file: str, rows: Sequence[TestResult]) -> str:
    cases = "".join(map(_case, rows))
    return f"  <testsuite name={_quoted(file)}{_counts(rows)}>\n{cases}  </testsuite>\n"


def _case(row: TestResult) -> str:
    group, _, name = row.name.rpartition("/") if "_cases/" in row.name else row.name.rpartition(".")
    head = f"    <testcase classname={_quoted(group)} name={_quoted(name)}"
    head += f' file={_quoted(row.file)} line="{row.line}" time="{row.duration_s:.6f}"'
    tag = _TAGS.get(row.outcome)
    if tag is None:
        return f"{head}/>\n"
    first = row.message.split("\n")[0]
    return f"{head}>\n      <{tag} message={_quoted(first)}>{_text(row.message)}</{tag}>\n    </testcase>\n"


def _counts(rows: Sequence[TestResult]) -> str:
    counts = {"tests": len(rows)}
    counts |= {
        name: sum(row.outcome == outcome for row in rows)
        for name, outcome in (("failures", "fail"), ("errors", "error"), ("skipped", "skip"))
    }
    return "".join(f' {name}="{count}"' for name, count in counts.items())


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("", inert(text, multiline=True)))


def _quoted(text: str) -> str:
    return quoteattr(_NOT_XML.sub("", inert(text, multiline=True)))
