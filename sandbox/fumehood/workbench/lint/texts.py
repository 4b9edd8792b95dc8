"""Paths and URLs compared as raw text: `/srv/data/../../etc` begins with `/srv/data`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

from fumehood.pdp.gate.context import CALL_FUNCTIONS, Context
from fumehood.pdp.gate.refs import called_path
from fumehood.pdp.gate.scope import function_name
from fumehood.pdp.syntax import Module, Node, constant_of, kind_of, start_of, walk
from fumehood.workbench.lint.findings import Finding, warning
from fumehood.workbench.reach import arguments_in

__all__ = ["check_raw_texts"]

# built-in → (where the text is, where what it is compared with is)
_COMPARING = {
    "startswith": (0, 1),
    "endswith": (0, 1),
    "contains": (0, 1),
    "regex.match": (1, 0),
    "glob.match": (2, 0),
}
_NAMES = "path|file|filename|folder|dir|directory|url|uri|link|host|command|cmd|sql|query"
_WORDS = re.compile(rf"(?:\A|_)(?:{_NAMES})(?:\Z|_)")


def check_raw_texts(context: Context) -> Iterator[Finding]:
    for module, rule in context.each_rule():
        for kind, body in walk(rule.parts()):
            if kind == "Call" and function_name(body) in _COMPARING:
                yield from _call(module, body)


def _call(module: Module, call: Node) -> Iterator[Finding]:
    name, params = function_name(call), cast("list[Node]", call["params"])
    at, against = _COMPARING[name]
    if len(params) <= max(at, against):
        return
    named = next((n for n in arguments_in(module, [params[at]]) if _is_raw(module, params[at])), None)
    said = constant_of(params[against])
    looks_so = isinstance(said, str) and (said.startswith(("/", "^/")) or "://" in said)
    if named is None or not (looks_so or _WORDS.search(named.name.lower())):
        return
    message = f"`{name}` on the raw text of `{named.name}`: `..`, another case or other words pass by it"
    remedy = f'Compare call.path("/{named.name}"), call.url("/{named.name}") or call.argv("/{named.name}").'
    yield warning("raw-text", module.problem(start_of(kind_of(params[at])[1]), message, remedy))


def _is_raw(module: Module, node: Node) -> bool:
    """The argument itself, perhaps in lower case or trimmed; not a form that Fumehood worked out."""
    called = {called_path(module, body)[-1] for kind, body in walk(node) if kind == "Call"}
    return not called & (CALL_FUNCTIONS.keys() - {"arg"})
