"""What only a person can know, and nobody has said yet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fumehood.errors import Problem
from fumehood.pdp.sources import PolicyFile
from fumehood.workbench.lint.findings import Finding, error

__all__ = ["MARK", "check_unfinished"]

#: The word that marks such a place, in any file beside the policies.
MARK = "TO" + "DO"
_MARK = re.compile(rf"\b{MARK}\b:?[ \t]*(?P<what>[^\n\"]*)")


def check_unfinished(files: Sequence[PolicyFile]) -> Iterator[Finding]:
    for file in files:
        for found in _MARK.finditer(file.text):
            before = file.text[: found.start()]
            begin = before.rfind("\n") + 1
            line = file.text[begin:].split("\n", 1)[0].replace("\t", " ")
            what = found["what"].strip() or "something"
            problem = Problem(
                file.path,
                before.count("\n") + 1,
                len(before) - begin + 1,
                f"still to be decided: {what}",
                f"Decide it, write it here, and delete the word {MARK}.",
                line[:300],
            )
            yield error("unfinished", problem)
