"""What the agent may see of a result: takes out what a policy's `redact` names.

Patterns are RE2 (linear time: the text is untrusted). A pointer that is not there takes nothing
out; a pattern that does not compile withholds the whole result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import re2

from fumehood.canonical import JSON, at, escape
from fumehood.errors import FumehoodError
from fumehood.model import Redact

__all__ = ["MARK", "Shown", "redact"]

MARK = "[redacted]"


@dataclass(frozen=True, slots=True)
class Shown:
    """A result after redaction."""

    value: JSON
    is_changed: bool


def redact(value: JSON, redactions: Sequence[Redact]) -> Shown:
    """*value* without what *redactions* name.

    Raises:
        FumehoodError: a pattern is not RE2.
    """
    if not redactions:
        return Shown(value, is_changed=False)
    paths = frozenset(r.path for r in redactions if r.path is not None and _is_there(value, r.path))
    patterns = [_compiled(r.pattern) for r in redactions if r.pattern is not None]
    shown = _redacted(value, "", paths, patterns)
    return Shown(shown, is_changed=shown != value)


def _redacted(value: JSON, pointer: str, paths: frozenset[str], patterns: Sequence[re2._Regexp]) -> JSON:
    if pointer in paths:
        return MARK
    if isinstance(value, str):
        return _without(value, patterns)
    if isinstance(value, list):
        return [_redacted(v, f"{pointer}/{i}", paths, patterns) for i, v in enumerate(value)]
    if isinstance(value, dict):
        shown = {k: _redacted(v, f"{pointer}/{escape(k)}", paths, patterns) for k, v in value.items()}
        return _named_anew(shown, patterns)
    is_hit = value is not None and any(p.search(str(value)) for p in patterns)
    return MARK if is_hit else value


def _without(text: str, patterns: Sequence[re2._Regexp]) -> str:
    for pattern in patterns:
        text = pattern.sub(MARK, text)
    return text


def _named_anew(value: dict[str, JSON], patterns: Sequence[re2._Regexp]) -> JSON:
    """*value* with its keys redacted; if two become one, nothing of it is shown."""
    names = [_without(key, patterns) for key in value]
    return dict(zip(names, value.values(), strict=True)) if len(set(names)) == len(names) else MARK


def _is_there(value: JSON, path: str) -> bool:
    try:
        at(value, path)
    except KeyError:
        return False
    return True


def _compiled(pattern: str) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise FumehoodError(f"the policy's redact pattern is not RE2: {error}") from error
