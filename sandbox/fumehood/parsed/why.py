"""Why an argument has no path, URL or words: fixed texts that never quote it. Pure."""

from __future__ import annotations

import re

__all__ = ["why_no_path", "why_no_url", "why_no_words"]

_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def why_no_path(text: str, *, has_folder: bool) -> str:
    """For a text that `simple.path_of` refuses."""
    if not text:
        return "it is empty"
    if "\0" in text:
        return "it holds a NUL"
    if text.startswith("~"):
        return "it begins with ~, which a shell replaces and a program does not"
    if "://" in text:
        return "it looks like a URL"
    if not text.startswith("/") and not has_folder:
        return "it is relative, and nobody knows to which folder"
    return "it is too long"


def why_no_url(text: str) -> str:
    """For a text that `urls.url_of` refuses."""
    scheme = _SCHEME.match(text)
    if scheme is None:
        return "it does not begin with a scheme and ://"
    rest = text[scheme.end() :]
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if _CONTROL.search(text):
        return "it holds a blank or a control character, which some readers leave out"
    if "\\" in text:
        return "it holds a backslash, which some readers take for a slash"
    if "@" in authority or ("@" in rest and not rest.startswith(authority + "/")):
        return "it holds user information, or looks as if it did"
    if not authority:
        return "it has no host"
    if "%" in authority:
        return "its host is written with percent signs"
    if not authority.isascii():
        return "its host has characters that readers map differently; write it in punycode (xn--)"
    return "its host, port or path is written in a form that readers understand differently"


def why_no_words(text: str) -> str:
    """For a text that `simple.words_of` refuses."""
    return "it is empty" if not text.strip() else "it is not one simple command without expansions"
