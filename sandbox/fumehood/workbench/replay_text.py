"""What a replay found: as text, as JSON, and as Markdown for a pull request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fumehood.display import clip
from fumehood.model import Phase
from fumehood.workbench.replay import Answer, Change, Level
from fumehood.workbench.replay_run import Group, Summary

__all__ = ["as_dict", "markdown_lines", "text_lines"]

_WORDS = {
    Change.WIDENED: "WIDENED",
    Change.TIGHTENED: "TIGHTENED",
    Change.OBLIGATIONS: "OTHER OBLIGATIONS",
    Change.SAME: "the same",
    Change.UNSURE: "CANNOT TELL",
}
_LONG = 200
_MARKUP = frozenset("\\`*_[]|#~!&<>@$:")  # what Markdown, HTML or a forge could read as more than text
_ROWS = 50  # of a table


def as_dict(summary: Summary) -> dict[str, Any]:
    """A replay for a program."""
    return {
        "revision": summary.revision,
        "calls": summary.calls,
        "now_permitted": summary.permitted,
        "counts": {change.value: summary.counts.get(change, 0) for change in Change},
        "results": summary.results,
        "now_released": summary.released,
        "result_counts": {change.value: summary.result_counts.get(change, 0) for change in Change},
        "groups": [
            {
                "change": group.change.value,
                "tool": group.tool,
                "phase": (Phase.RETURN_RESULT if group.is_result else Phase.EXECUTE_TOOL).value,
                "count": group.count,
                "why": group.why,
                "before": _answer_dict(group.before),
                "after": _answer_dict(group.after),
                "seqs": group.seqs,
            }
            for group in summary.groups
        ],
    }


def text_lines(summary: Summary) -> Iterator[str]:
    """A replay for a person at a shell."""
    revision = summary.revision[:19]
    yield f"{summary.calls} recorded calls decided again by {revision}: {_counts(summary.counts)}"
    if _speaks_of_results(summary):
        yield f"{summary.results} recorded results decided again: {_counts(summary.result_counts)}"
    if summary.permitted:
        yield f"{summary.permitted} that were denied, or asked, would now be PERMITTED."
    if summary.released:
        yield f"{summary.released} results that were withheld would now be RELEASED."
    for group in summary.groups[:_ROWS]:
        yield ""
        yield f"{_WORDS[group.change]}: {group.count} × {_of(group)}   {_step(group)}"
        yield f"  before: {_said(group, group.before)}"
        yield f"  now:    {_said(group, group.after)}"
        if group.why:
            yield f"  {clip(group.why, 2 * _LONG)}"
        more = " …" if group.count > len(group.seqs) else ""
        if group.seqs:
            yield f"  events {', '.join(map(str, group.seqs))}{more}"
    if len(summary.groups) > _ROWS:
        yield ""
        yield f"… and {len(summary.groups) - _ROWS} more kinds of change; --json has them all."


def markdown_lines(summary: Summary) -> Iterator[str]:
    """A replay as a comment on a pull request."""
    yield "### What this policy change does to recorded calls"
    yield ""
    revision = f"`{summary.revision[:19]}`"
    yield f"{summary.calls} recorded calls, decided again by {revision}: {_counts(summary.counts)}."
    if _speaks_of_results(summary):
        yield f"{summary.results} recorded results, decided again: {_counts(summary.result_counts)}."
    if summary.released:
        yield ""
        yield f"**{summary.released} results that were withheld would now be released.**"
    if summary.permitted:
        yield ""
        yield f"**{summary.permitted} calls that were denied, or asked, would now be permitted.**"
    if not summary.groups:
        return
    yield ""
    yield "| change | calls | tool | before | now | events |"
    yield "|---|---:|---|---|---|---|"
    for group in summary.groups[:_ROWS]:
        cells = (
            _WORDS[group.change].lower(),
            str(group.count),
            _of(group),
            _said(group, group.before),
            _said(group, group.after) + (f" ({group.why})" if group.why else ""),
            ", ".join(map(str, group.seqs)) + (" …" if group.count > len(group.seqs) else ""),
        )
        yield f"| {' | '.join(map(_cell, cells))} |"
    if len(summary.groups) > _ROWS:
        yield ""
        yield f"… and {len(summary.groups) - _ROWS} more kinds of change."


def _cell(text: str) -> str:
    """*text* in a table of Markdown: nothing in it is markup, a mention, a link or HTML."""
    shown = clip(" ".join(text.split()), _LONG)
    return "".join(f"&#{ord(c)};" if c in _MARKUP else c for c in shown)


def _counts(counts: Mapping[Change, int]) -> str:
    said = [f"{counts[c]} {_WORDS[c].lower()}" for c in Change if counts.get(c)]
    return ", ".join(said) or "there are none"


def _speaks_of_results(summary: Summary) -> bool:
    return summary.results != summary.result_counts.get(Change.SAME, 0)


def _of(group: Group) -> str:
    return f"result of {group.tool}" if group.is_result else group.tool


def _level(group: Group, answer: Answer) -> str:
    if group.is_result:
        return "withhold" if answer.level is Level.DENY else "release"
    return answer.level.value


def _step(group: Group) -> str:
    before, after = _level(group, group.before), _level(group, group.after)
    return before if before == after else f"{before} → {after}"


def _said(group: Group, answer: Answer) -> str:
    rules = f" [{', '.join(answer.rules)}]" if answer.rules else ""
    level = _level(group, answer)
    if answer.level is Level.DENY:
        reasons = (f"{text} ({code})" for code, text in zip(answer.codes, answer.reasons, strict=True))
        return clip(f"{level}: {'; '.join(reasons)}{rules}", _LONG)
    if answer.level is Level.ASK:
        asked = [json.loads(o) for o in answer.obligations]
        return clip(f"ask: {'; '.join(a['reason'] for a in asked if a['type'] == 'approve')}{rules}", _LONG)
    return clip(f"{level}{rules}", _LONG)


def _answer_dict(answer: Answer) -> dict[str, Any]:
    reasons = zip(answer.codes, answer.reasons, strict=True)
    return {
        "level": answer.level.value,
        "reasons": [{"code": code, "text": text} for code, text in reasons],
        "obligations": [json.loads(o) for o in answer.obligations],
        "rules": list(answer.rules),
        "revision": answer.revision,
    }
