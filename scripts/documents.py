"""Run the code that the documents show, and write down what it printed.

    scripts/documents.py README.md docs/index.md           compare
    scripts/documents.py --write README.md                 write the output anew

What runs: every ```python block (blocks of one file share their names, in order) and every
```console block (lines that begin with "$ " are commands; what follows is their output, in which a
line "..." stands for any lines and "…" within a line for any text). ```json blocks must parse, ```rego
blocks must pass the load gate. A block with the comment `<!-- shown: why -->` on the line before it
is only shown. After `<!-- file: name -->` a block is written to that file, for the commands that follow;
Python in a file is run by them, not by itself. A comment `<!-- python: … -->` holds Python that
readers need not see; it runs in its place.

Each document runs in an empty folder of its own, with its own ledger.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

FENCE = re.compile(
    r"(?P<before>^[^\n]*\n)?^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
HIDDEN = re.compile(r"^<!-- python:\n(?P<body>.*?)^-->$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- *(?P<word>shown|file): *(?P<what>[^>]*?) *-->")
TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: where its body starts and ends in the text, and what its comment says."""

    language: str
    body: str
    start: int
    end: int
    line: int
    is_shown_only: bool = False
    file: str | None = None


@dataclass(slots=True)
class Findings:
    """What did not hold, and what each console block should say: (start, end, text)."""

    problems: list[str] = field(default_factory=list)
    edits: list[tuple[int, int, str]] = field(default_factory=list)


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a Markdown *text*."""
    fenced = [_block(found, text) for found in FENCE.finditer(text)]
    hidden = [
        Block("python", h["body"], h.start(), h.end(), _line(text, h.start())) for h in HIDDEN.finditer(text)
    ]
    return sorted(fenced + hidden, key=lambda block: block.start)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _block(found: re.Match[str], text: str) -> Block:
    mark = MARK.search(found["before"] or "")
    return Block(
        found["language"],
        found["body"],
        found.start("body"),
        found.end("body"),
        _line(text, found.start("body")),
        is_shown_only=bool(mark and mark["word"] == "shown"),
        file=mark["what"] if mark and mark["word"] == "file" else None,
    )


def run(path: Path) -> Findings:
    """Run what the document at *path* shows."""
    findings = Findings()
    with tempfile.TemporaryDirectory(prefix="fh-doc-") as folder:
        place = Path(folder)
        program: list[str] = []
        for block in blocks(path.read_text()):
            if block.is_shown_only:
                continue
            if block.file:
                (place / block.file).parent.mkdir(parents=True, exist_ok=True)
                (place / block.file).write_text(block.body)
            _run_block(block, f"{path.name}:{block.line}", place, program, findings)
    return findings


def _run_block(block: Block, where: str, place: Path, program: list[str], findings: Findings) -> None:
    match block.language:
        case "python" if not block.file:
            program.append(f"# {where}\n{block.body}")
            answer = _execute([sys.executable, "-W", "error", "-c", "\n".join(program)], place)
            if answer.returncode:
                findings.problems.append(f"{where}: this Python fails\n{answer.stdout}{answer.stderr}")
        case "json":
            try:
                json.loads(block.body)
            except ValueError as error:
                findings.problems.append(f"{where}: not JSON: {error}")
        case "rego":
            _check_rego(block, where, place, findings)
        case "console":
            _run_console(block, where, place, findings)


def _check_rego(block: Block, where: str, place: Path, findings: Findings) -> None:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        (Path(folder) / "shown.rego").write_text(block.body)
        answer = _execute(["fumehood", "policy", "check", folder], place)
    if answer.returncode:
        findings.problems.append(
            f"{where}: the load gate refuses this policy\n{answer.stdout}{answer.stderr}"
        )


def _run_console(block: Block, where: str, place: Path, findings: Findings) -> None:
    made: list[str] = []
    for command, shown in conversation(block.body):
        printed = _execute(["sh", "-c", f"exec 2>&1\n{command}"], place).stdout
        is_true = matches(shown, printed)
        if not is_true:
            findings.problems.append(f"{where}: $ {command}\n--- shown\n{shown}--- printed\n{printed}")
        made.append(f"$ {command}\n{shown if is_true else printed}")
    findings.edits.append((block.start, block.end, "".join(made)))


def conversation(body: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output shown below it."""
    parts = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def matches(expected: str, found: str) -> bool:
    """Does *found* read as *expected* says, with "..." lines and "…" standing for anything?"""
    pattern = ""
    for line in expected.splitlines():
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(piece.rstrip()) for piece in line.split("…")) + r"[ ]*\n"
    return re.fullmatch(pattern, found if not found or found.endswith("\n") else found + "\n") is not None


def _execute(argv: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE"))
    }
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "FUMEHOOD_LEDGER": str(place / "trace.db"),
        "TMPDIR": str(place),
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }
    return subprocess.run(  # the documents are ours
        argv,
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )


def write(path: Path, findings: Findings) -> None:
    """Put what was printed into the document."""
    text = path.read_text()
    for start, end, body in sorted(findings.edits, reverse=True):
        text = text[:start] + body + text[end:]
    path.write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the output into the documents")
    parser.add_argument("documents", nargs="+", type=Path)
    arguments = parser.parse_args()
    failed = False
    for path in arguments.documents:
        findings = run(path)
        if arguments.write:
            write(path, findings)
        sys.stdout.write("".join(f"{problem}\n" for problem in findings.problems))
        failed = failed or bool(findings.problems)
    return 1 if failed and not arguments.write else 0


if __name__ == "__main__":
    sys.exit(main())
