"""What a replay found: as text, as JSON, and as Markdown for a pull request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fumehood.display import clip
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
        "groups": [
            {
                "change": group.change.value,
                "tool": group.tool,
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
    yield f"{summary.calls} recorded calls decided again by {summary.revision[:19]}: {_counts(summary)}"
    if summary.permitted:
        yield f"{summary.permitted} that were denied, or asked, would now be PERMITTED."
    for group in summary.groups[:_ROWS]:
        yield ""
        yield f"{_WORDS[group.change]}: {group.count} × {group.tool}   {_step(group)}"
        yield f"  before: {_said(group.before)}"
        yield f"  now:    {_said(group.after)}"
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
    yield f"{summary.calls} recorded calls, decided again by `{summary.revision[:19]}`: {_counts(summary)}."
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
            group.tool,
            _said(group.before),
            _said(group.after) + (f" ({group.why})" if group.why else ""),
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


def _counts(summary: Summary) -> str:
    said = [f"{summary.counts[c]} {_WORDS[c].lower()}" for c in Change if summary.counts.get(c)]
    return ", ".join(said) or "there are none"


def _step(group: Group) -> str:
    return group.before.level.value if group.before.level == group.after.level else _arrow(group)


def _arrow(group: Group) -> str:
    return f"{group.before.level.value} → {group.after.level.value}"


def _said(answer: Answer) -> str:
    rules = f" [{', '.join(answer.rules)}]" if answer.rules else ""
    if answer.level is Level.DENY:
        reasons = (f"{text} ({code})" for code, text in zip(answer.codes, answer.reasons, strict=True))
        return clip(f"deny: {'; '.join(reasons)}{rules}", _LONG)
    if answer.level is Level.ASK:
        asked = [json.loads(o) for o in answer.obligations]
        return clip(f"ask: {'; '.join(a['reason'] for a in asked if a['type'] == 'approve')}{rules}", _LONG)
    return clip(f"permit{rules}", _LONG)


def _answer_dict(answer: Answer) -> dict[str, Any]:
    reasons = zip(answer.codes, answer.reasons, strict=True)
    return {
        "level": answer.level.value,
        "reasons": [{"code": code, "text": text} for code, text in reasons],
        "obligations": [json.loads(o) for o in answer.obligations],
        "rules": list(answer.rules),
        "revision": answer.revision,
    }
