"""The built-in functions that both engines have and agree about, with their number of arguments.

Measured against OPA 1.20 and regorus 0.13; tests/pdp/test_builtins.py asks both again. What is not
here is refused at load: an unknown name, something that differs from run to run (a recorded
decision could not be repeated), or something on which the engines disagree.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ARITY", "banned"]

ARITY: Mapping[str, int] = {
    "abs": 1, "array.concat": 2, "array.reverse": 1, "array.slice": 3,
    "base64.decode": 1, "base64.encode": 1, "base64url.decode": 1, "base64url.encode": 1,
    "base64url.encode_no_pad": 1,
    "bits.and": 2, "bits.negate": 1, "bits.or": 2, "bits.rsh": 2, "bits.xor": 2,
    "concat": 2, "contains": 2, "count": 1, "endswith": 2, "format_int": 2, "glob.match": 3,
    "graph.reachable": 2, "hex.decode": 1, "hex.encode": 1, "intersection": 1,
    "is_array": 1, "is_boolean": 1, "is_null": 1, "is_number": 1, "is_object": 1, "is_set": 1, "is_string": 1,
    "json.filter": 2, "json.remove": 2, "lower": 1, "max": 1, "min": 1,
    "numbers.range": 2, "numbers.range_step": 3,
    "object.filter": 2, "object.get": 3, "object.keys": 1, "object.remove": 2, "object.union": 2,
    "object.union_n": 1, "product": 1,
    "regex.find_all_string_submatch_n": 3, "regex.find_n": 3, "regex.match": 2, "regex.replace": 3,
    "replace": 3, "round": 1, "semver.compare": 2, "sort": 1, "split": 2, "sprintf": 2, "startswith": 2,
    "strings.any_prefix_match": 2, "strings.any_suffix_match": 2, "strings.reverse": 1,
    "substring": 3, "sum": 1,
    "time.add_date": 4, "time.clock": 1, "time.date": 1, "time.diff": 2, "time.parse_rfc3339_ns": 1,
    "time.weekday": 1,
    "trim": 2, "trim_left": 2, "trim_prefix": 2, "trim_right": 2, "trim_space": 1, "trim_suffix": 2,
    "type_name": 1, "union": 1, "walk": 1,
}  # fmt: skip

_REPEAT = "differs from run to run, so that a recorded decision could not be repeated"
_DIFFER = "the embedded engine and OPA disagree about it"
_MISSING = "the embedded engine does not have it"
_OUTSIDE = "reaches outside of the policy"
_BEFORE = "Check it before the call, in the tool or its argument schema."

# A name, or the beginning of one that ends in "." → why not, and what to write instead
_BANNED: Mapping[str, tuple[str, str]] = {
    "time.now_ns": (_REPEAT, "Use time.parse_rfc3339_ns(input.context.time)."),
    "rand.": (_REPEAT, "Decide by a value of the input."),
    "uuid.": (_REPEAT, "Use input.action.properties.digest as a name for the call."),
    "http.": (_OUTSIDE, "Put what it would fetch into a data.json beside the policies."),
    "net.lookup_ip_addr": (_OUTSIDE, "Compare call.url(pointer).host with names you know."),
    "opa.": (_OUTSIDE, "Put configuration into a data.json beside the policies."),
    "io.jwt.": (_MISSING, "Verify tokens before the call; roles are in input.subject.properties.roles."),
    "rego.": (_MISSING, "Write the value out."),
    "crypto.": (_MISSING, "A digest of the call is in input.action.properties.digest."),
    "graphql.": (_MISSING, _BEFORE),
    "base64.is_valid": (_DIFFER, "Use regex.match with the characters you allow."),
    "bits.lsh": (_DIFFER, "Multiply."),
    "ceil": (_DIFFER, "Compare without rounding, or use round."),
    "floor": (_DIFFER, "Compare without rounding, or use round."),
    "glob.quote_meta": (_DIFFER, "Compare with ==, or write the pattern out."),
    "indexof": (_DIFFER, "Use contains, startswith or split."),
    "indexof_n": (_DIFFER, "Use contains, startswith or split."),
    "json.is_valid": (_DIFFER, _BEFORE),
    "json.marshal": (_DIFFER, "Give the value itself; `detail` may be any value."),
    "json.marshal_with_options": (_DIFFER, "Give the value itself; `detail` may be any value."),
    "json.match_schema": (_DIFFER, _BEFORE),
    "json.patch": (_DIFFER, "Use object.union and object.remove."),
    "json.unmarshal": (_DIFFER, _BEFORE),
    "json.verify_schema": (_DIFFER, _BEFORE),
    "net.": (_DIFFER, "Compare call.url(pointer).host, which is normalised, with names and addresses."),
    "object.subset": (_DIFFER, "Use every: `every key, value in part { whole[key] == value }`."),
    "regex.is_valid": (_DIFFER, "Patterns are constant; write a valid one."),
    "regex.split": (_DIFFER, "Use split, or regex.find_n."),
    "semver.is_valid": (_DIFFER, "Use regex.match."),
    "strings.count": (_DIFFER, "Use count(split(text, part)) - 1."),
    "strings.replace_n": (_DIFFER, "Use replace, once for each."),
    "time.parse_duration_ns": (_DIFFER, "Give durations as numbers of seconds."),
    "to_number": (_DIFFER, "Declare the argument as a number."),
    "trace": (_DIFFER, "Use `detail` in a reason; it reaches the operator and the record."),
    "units.": (_DIFFER, "Give sizes as numbers of bytes."),
    "upper": (_DIFFER, "Use lower, on both sides."),
    "urlquery.": (_DIFFER, "Use call.url(pointer)."),
    "yaml.": (_DIFFER, "Use JSON, and check it before the call."),
    "print": ("belongs in a test", "Use `detail` in a reason; it reaches the operator and the record."),
}


def banned(name: str) -> tuple[str, str] | None:
    """Why the built-in *name* is refused, and what to write instead; None if it is not."""
    for known, why in _BANNED.items():
        if name == known or (known.endswith(".") and name.startswith(known)):
            return why
    return None
