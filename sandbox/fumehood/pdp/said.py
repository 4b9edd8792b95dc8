"""What an OPA server says beside the decision where a guard observes: each package's answers, apart.

`data.fumehood.main.observed` is {decision, said}; see lib/main.rego. What is of another shape is no answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from fumehood.canonical import JSON
from fumehood.errors import PdpError
from fumehood.pdp.combine import PUBLIC, Answers

__all__ = ["Said", "answers_of", "split_said", "spoken"]

Said = Sequence[tuple[str, str, str, JSON]]  # package, rule, type, value


def split_said(result: JSON) -> tuple[Said, JSON]:
    """What was said, and the decision; ((), None) where the server has neither.

    Raises:
        PdpError: `pdp_malformed`.
    """
    if result is None:
        return (), None
    if not isinstance(result, dict) or result.keys() != {"decision", "said"}:
        raise _malformed("expected an object of decision, said")
    said = result["said"]
    if not isinstance(said, list):
        raise _malformed("what the packages said is not a list")
    return tuple(map(_item, said)), result["decision"]


def answers_of(said: Said) -> Answers:
    """The same, by package and rule."""
    found: dict[str, dict[str, list[tuple[str, JSON]]]] = {}
    for package, rule, kind, value in said:
        found.setdefault(package, {}).setdefault(rule, []).append((kind, value))
    return found


def spoken(said: Said) -> Iterator[str]:
    """The rules that said more than nothing, by full name."""
    for package, rule, _, value in said:
        if value not in (False, [], {}):
            yield f"policies.{package}.{rule}"


def _item(entry: JSON) -> tuple[str, str, str, JSON]:
    is_one = isinstance(entry, list) and len(entry) == 4 and all(isinstance(part, str) for part in entry[:3])
    package, rule, kind, value = cast("list[JSON]", entry) if is_one else ("", "", "", None)
    if rule not in PUBLIC or (kind == "set" and not isinstance(value, list)):
        raise _malformed("what a package said is not [package, rule, type, value]")
    return cast("tuple[str, str, str, JSON]", (package, rule, kind, value))


def _malformed(what: str) -> PdpError:
    return PdpError(f"not what is asked for where packages are observed: {what}", code="pdp_malformed")
