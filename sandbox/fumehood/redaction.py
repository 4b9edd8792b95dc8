"""Takes secrets out of what is written or shown. Pure; patterns run in RE2, which cannot hang.

Three sources say what a secret is: the tool's annotations (`secret`), the names of keys
(`password`, `api_key`, …), and the shapes of known credentials. The first two are certain, the
last is a net with holes: annotate. What was taken out becomes `MARK`, and its length is not kept.

This is about the record; what the agent sees of a result is `release`. Policy sees originals, in
memory only. Sources of the patterns: the published formats of the issuers (AWS, GitHub, GitLab,
Slack, Google, Stripe, OpenAI, Anthropic), RFC 7519, RFC 7468, RFC 6750.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

import re2

from fumehood.canonical import JSON, at, canonical, escape, leaves, parse
from fumehood.model import ToolCall

__all__ = [
    "MARK",
    "is_secret_name",
    "redacted_args",
    "redacted_input",
    "redacted_json",
    "redacted_text",
]

# Made once: `json.dumps` with options would make an encoder for each call.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

MARK = "⟨redacted⟩"
_MIN_SECRET = 4  # characters; a shorter secret value is not searched for elsewhere

# A key is secret if its letters and digits, in lower case, end in one of these.
_SECRET_ENDINGS = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "accesskeyid",
    "privatekey",
    "secretkey",
    "authorization",
    "credential",
    "credentials",
    "cookie",
)
_OPEN_ENDINGS = ("pagetoken", "continuationtoken", "cursortoken")  # these page through lists

_SHAPES = (
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}",
    r"gh[pousr]_[A-Za-z0-9]{36,}",
    r"github_pat_[A-Za-z0-9_]{22,}",
    r"glpat-[A-Za-z0-9_-]{20,}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
    r"sk-(?:ant-|proj-|svcacct-)?[A-Za-z0-9_-]{20,}",
    r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,}",
    r"AIza[A-Za-z0-9_-]{35}",
    r"ya29\.[A-Za-z0-9_-]{20,}",
    r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
)
# In these only the second group is the secret.
_KEYED = (
    r"((?i:\b(?:bearer|basic)\s+))([A-Za-z0-9._~+/=-]{16,})",
    r"(://[^/\s:@\"]*:)([^/\s@\"]+)(?:@)",
    r"((?i:passw(?:or)?d|passphrase|secret|api[_-]?key|access[_-]?key|token|credential)[\"'\\]*\s*[:=]\s*[\"'\\]*)"
    r"([^\s\"'\\,;&⟨]{6,})",
)


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.never_nl = False
    return options


_ANY = re2.compile("|".join((*_SHAPES, *_KEYED)), _options())
_SHAPE = re2.compile("|".join(_SHAPES), _options())
_PAIRS = tuple(re2.compile(pattern, _options()) for pattern in _KEYED)
_BETWEEN = "[^a-z0-9]*"  # letters of a name may be parted: API-Key, access_token
_ENDINGS = "|".join(_BETWEEN.join(ending) for ending in _SECRET_ENDINGS)
_NAMED = re2.compile(f'(?i)(?:{_ENDINGS}){_BETWEEN}"', _options())


@dataclass(frozen=True, slots=True)
class _Rules:
    """What to take out: pointers, secret values wherever they stand, and whether names of keys count."""

    pointers: frozenset[str] = frozenset()
    values: tuple[str, ...] = ()
    by_name: bool = True


def is_secret_name(name: str) -> bool:
    """True if a key of that name holds a secret (`X-Api-Key`, `db_password`, `accessToken`)."""
    plain = "".join(c for c in name.casefold() if c.isalnum())
    return plain.endswith(_SECRET_ENDINGS) and not plain.endswith(_OPEN_ENDINGS)


def redacted_text(text: str) -> str:
    """*text* with credentials of known shapes replaced by `MARK`; always encodable as UTF-8."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    if _ANY.search(text) is None:
        return text
    text = _SHAPE.sub(_mark, text)
    for pair in _PAIRS:
        text = pair.sub(_keep_key, text)
    return text


def redacted_json(document: bytes, *, pointers: Iterable[str] = ()) -> bytes:
    """*document* (JSON) without what stands at *pointers*, under secret names, or looks like a credential.

    The same bytes come back if nothing had to be taken out.

    Raises:
        BindError: *document* is not JSON.
    """
    wanted = frozenset(pointers)
    if not wanted and not _may_hold_secret(document):
        return document
    before = parse(document)
    after = _without(before, "", _Rules(wanted))
    return document if after == before else _dumped(after)


def redacted_args(call: ToolCall) -> bytes:
    """The call's arguments as they may be shown and written: canonical JSON, secrets taken out."""
    after = redacted_json(call.args, pointers=_secret_pointers(call))
    return after if after is call.args else canonical(parse(after))


def redacted_input(call: ToolCall, document: bytes) -> bytes:
    """The policy input of *call* as it may be written.

    A secret argument is taken out wherever its value stands in the document (the user's words, say),
    and so is what was derived from it under `context.normalised`.
    """
    secrets = _secret_values(call)
    if not secrets and _ANY.search(document) is None:
        return document
    texts = tuple(v for _, v in secrets if isinstance(v, str) and len(v) >= _MIN_SECRET)
    root = parse(document)
    gone = frozenset(pointer for pointer, _ in secrets)
    pointers = frozenset("/action/properties/args" + pointer for pointer in gone)
    root = _without(root, "", _Rules(pointers, texts, by_name=False))
    _drop_derived(root, gone)
    return _dumped(root)


def _may_hold_secret(document: bytes) -> bool:
    return b"\\" in document or _NAMED.search(document) is not None or _ANY.search(document) is not None


def _secret_pointers(call: ToolCall) -> tuple[str, ...]:
    names = call.tool.annotations.secret
    return tuple(n if n.startswith("/") else "/" + escape(n) for n in names)


def _secret_values(call: ToolCall) -> list[tuple[str, JSON]]:
    """Every argument that `redacted_args` takes out whole, with its pointer."""
    pointers = _secret_pointers(call)
    if not pointers and not _may_hold_secret(call.args):
        return []
    args = parse(call.args)
    shown = dict(leaves(_without(args, "", _Rules(frozenset(pointers)))))
    return [(pointer, value) for pointer, value in leaves(args) if shown.get(pointer, MARK) != value]


def _without(value: JSON, pointer: str, rules: _Rules) -> JSON:
    if pointer in rules.pointers:
        return MARK
    if isinstance(value, dict):
        return {
            redacted_text(key): MARK
            if rules.by_name and _may_be_secret(item) and is_secret_name(key)
            else _without(item, f"{pointer}/{escape(key)}", rules)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_without(item, f"{pointer}/{i}", rules) for i, item in enumerate(value)]
    if isinstance(value, str):
        for secret in rules.values:
            value = value.replace(secret, MARK)
        return redacted_text(value)
    return value


def _may_be_secret(item: JSON) -> bool:
    return not (item is None or isinstance(item, bool) or item == "")


def _drop_derived(root: JSON, gone: frozenset[str]) -> None:
    try:
        derived = at(root, "/context/normalised")
    except KeyError:
        return
    for kind in [derived, *(derived.values() if isinstance(derived, dict) else ())]:
        if isinstance(kind, dict):
            for pointer in [p for p in kind if _stands_under(p, gone)]:
                kind[pointer] = MARK


def _stands_under(pointer: str, gone: frozenset[str]) -> bool:
    return any(pointer == g or g.startswith(pointer + "/") or pointer.startswith(g + "/") for g in gone)


def _mark(_: re2._Match) -> str:
    return MARK


def _keep_key(match: re2._Match) -> str:
    tail = "@" if match.group(0).endswith("@") else ""
    return f"{match.group(1)}{MARK}{tail}"


def _dumped(value: JSON) -> bytes:
    return _encode(value).encode()
