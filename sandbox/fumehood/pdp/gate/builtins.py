"""The built-in functions that both engines have and agree about, with their number of arguments.

Measured against OPA 1.20 and regorus 0.13; tests/pdp/test_builtins.py asks both again. What is not
here is refused at load: an unknown name, something that differs from run to run (a recorded
decision could not be repeated), or something on which the engines disagree.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ARITY", "BANNED"]

ARITY: Mapping[str, int] = {
    "abs": 1, "array.concat": 2, "array.reverse": 1, "array.slice": 3,
    "base64.decode": 1, "base64.encode": 1, "base64.is_valid": 1, "base64url.decode": 1,
    "base64url.encode": 1, "base64url.encode_no_pad": 1,
    "bits.and": 2, "bits.lsh": 2, "bits.negate": 1, "bits.or": 2, "bits.rsh": 2, "bits.xor": 2,
    "ceil": 1, "concat": 2, "contains": 2, "count": 1, "endswith": 2, "floor": 1, "format_int": 2,
    "glob.match": 3, "glob.quote_meta": 1, "graph.reachable": 2,
    "hex.decode": 1, "hex.encode": 1, "indexof": 2, "indexof_n": 2, "intersection": 1,
    "is_array": 1, "is_boolean": 1, "is_null": 1, "is_number": 1, "is_object": 1, "is_set": 1, "is_string": 1,
    "json.filter": 2, "json.is_valid": 1, "json.marshal": 1, "json.patch": 2, "json.remove": 2,
    "json.unmarshal": 1, "lower": 1, "max": 1, "min": 1,
    "net.cidr_contains": 2, "net.cidr_is_valid": 1, "numbers.range": 2, "numbers.range_step": 3,
    "object.filter": 2, "object.get": 3, "object.keys": 1, "object.remove": 2, "object.subset": 2,
    "object.union": 2, "object.union_n": 1, "product": 1,
    "regex.find_all_string_submatch_n": 3, "regex.find_n": 3, "regex.is_valid": 1, "regex.match": 2,
    "regex.replace": 3, "regex.split": 2, "replace": 3, "round": 1,
    "semver.compare": 2, "semver.is_valid": 1, "sort": 1, "split": 2, "sprintf": 2, "startswith": 2,
    "strings.any_prefix_match": 2, "strings.any_suffix_match": 2, "strings.replace_n": 2,
    "strings.reverse": 1, "substring": 3, "sum": 1,
    "time.add_date": 4, "time.clock": 1, "time.date": 1, "time.diff": 2, "time.parse_duration_ns": 1,
    "time.parse_rfc3339_ns": 1, "time.weekday": 1, "to_number": 1,
    "trim": 2, "trim_left": 2, "trim_prefix": 2, "trim_right": 2, "trim_space": 1, "trim_suffix": 2,
    "type_name": 1, "union": 1, "units.parse_bytes": 1, "upper": 1,
    "urlquery.decode": 1, "urlquery.encode": 1, "walk": 1,
}  # fmt: skip

_NOT_REPEATABLE = "differs from run to run, so that a recorded decision could not be repeated"
_ENGINES_DIFFER = "the embedded engine and OPA disagree about it"
_NOT_EMBEDDED = "the embedded engine does not have it"
_OUTSIDE = "reaches outside of the policy"

# name, or the beginning of one that ends in "." → why not, and what to write instead
BANNED: Mapping[str, tuple[str, str]] = {
    "time.now_ns": (_NOT_REPEATABLE, "Use time.parse_rfc3339_ns(input.context.time)."),
    "rand.": (_NOT_REPEATABLE, "Decide by a value of the input."),
    "uuid.": (_NOT_REPEATABLE, "Use input.action.properties.digest as a name for the call."),
    "http.": (_OUTSIDE, "Put what it would fetch into a data document beside the policies."),
    "net.lookup_ip_addr": (_OUTSIDE, "Compare call.url(pointer).host with names you know."),
    "opa.": (_OUTSIDE, "Put configuration into a data document beside the policies."),
    "io.jwt.": (_NOT_EMBEDDED, "Verify tokens before the call; roles are in input.subject.properties.roles."),
    "rego.": (_NOT_EMBEDDED, "Write the value out."),
    "crypto.": (_NOT_EMBEDDED, "Digests are in input.action.properties.digest."),
    "graphql.": (_NOT_EMBEDDED, "Check the query before the call, in the tool."),
    "strings.count": (_ENGINES_DIFFER, "Use count(split(text, part)) - 1."),
    "json.match_schema": (_ENGINES_DIFFER, "Arguments are checked against the tool's schema before policy."),
    "json.verify_schema": (_ENGINES_DIFFER, "Arguments are checked against the tool's schema before policy."),
    "yaml.": (_ENGINES_DIFFER, "Use JSON."),
    "trace": (_ENGINES_DIFFER, "Use `detail` in a reason; it reaches the operator and the record."),
    "print": ("belongs in a test", "Use `detail` in a reason; it reaches the operator and the record."),
}
