"""One tiny bad policy per refusal, and forms that must pass. Each bad one names its line and column."""

from __future__ import annotations

from dataclasses import dataclass

HEAD = 'package policies.x\n\nimport data.fumehood.call\n\npermit if call.tool == "read"\n\n'
_FIRST = HEAD.count("\n") + 1


@dataclass(frozen=True)
class Bad:
    """A policy that must be refused at `line`:`column` (1-based) with `says` in the message."""

    name: str
    text: str
    line: int
    column: int
    says: str

    def __str__(self) -> str:
        return self.name


def after(name: str, text: str, says: str, *, line: int = 1, column: int = 1) -> Bad:
    """A bad rule behind a good beginning; `line` counts from the rule's first line."""
    return Bad(name, HEAD + text + "\n", _FIRST + line - 1, column, says)


BAD = [
    Bad("syntax", "package policies.x\n\npermit if {\n", 4, 1, "not Rego"),
    Bad("no_package", 'permit if input.x == "y"\n', 1, 1, "not Rego"),
    Bad(
        "outside",
        'package rules.x\n\npermit if input.a == "y"\n',
        1,
        1,
        "package rules.x is not policies.<name>",
    ),
    Bad("bare_policies", 'package policies\n\npermit if input.a == "y"\n', 1, 1, "is not policies.<name>"),
    Bad("nested", 'package policies.a.b\n\npermit if input.a == "y"\n', 1, 1, "nested below policies.a"),
    Bad("main", 'package fumehood.main\n\npermit if input.a == "y"\n', 1, 1, "Fumehood's own"),
    Bad("call", 'package fumehood.call\n\ntool := "read"\n', 1, 1, "Fumehood's own"),
    Bad("odd_name", 'package policies["a b"]\n\npermit if input.a == "y"\n', 1, 1, "is not policies.<name>"),
    Bad(
        "keyword_name", 'package policies["if"]\n\npermit if input.a == "y"\n', 1, 1, "is not policies.<name>"
    ),
    Bad(
        "no_permit",
        'package policies.x\n\ndeny contains "never"\n',
        1,
        1,
        "no policy of this bundle has a `permit`",
    ),
    Bad("only_default", "package policies.x\n\ndefault permit := false\n", 1, 1, "no policy of this bundle"),
    after("denny", 'denny contains "x" if call.tool == "pay"', 'did you mean "deny"'),
    after("allow", 'allow if call.tool == "pay"', "`allow` is not a rule"),
    after("helper_without_underscore", "is_small if call.args.n < 3", "`is_small` is not a rule"),
    after("test_in_policy", "test_x if true", "`test_x` is a test"),
    after("permit_text", 'permit := "yes"', "may only be true"),
    after("permit_false", 'permit := false if call.tool == "pay"', "may only be true"),
    after("permit_input", "permit := input.ok", "may only be true"),
    after("permit_else", 'permit if { call.tool == "b" } else := "maybe"', "may only be true"),
    after("permit_set", 'permit contains "x" if call.tool == "b"', "is true or undefined"),
    after("permit_function", 'permit(x) if x == "b"', "is true or undefined"),
    after("permit_object", 'permit.all if call.tool == "b"', "is true or undefined"),
    after("default_permit_true", "default permit := true", "may only be false"),
    after("deny_boolean", 'deny if call.tool == "b"', "`deny` is a set"),
    after("deny_assigned", 'deny := {"x"} if call.tool == "b"', "`deny` is a set"),
    after("deny_object", 'deny["x"] := 1 if call.tool == "b"', "`deny` is a set"),
    after("default_deny", "default deny := set()", "`deny` is a set"),
    after("approve_boolean", 'approve if call.tool == "b"', "`approve` is a set"),
    after("permit_always", "permit := true", "has no condition"),
    after("permit_if_true", "permit if true", "negative or always true", column=1),
    after("permit_negative", 'permit if call.tool != "b"', "negative or always true"),
    after("permit_not", "permit if not _bad\n_bad if call.args.x == 1", "negative or always true"),
    after("permit_helper_negative", 'permit if _fine\n_fine if call.tool != "b"', "negative or always true"),
    after("permit_false_compare", 'permit if call.trusted("/x") == false', "negative or always true"),
    after(
        "permit_none_found",
        'permit if count({x | some x in call.args.l; x == "b"}) == 0',
        "negative or always",
    ),
    after("permit_every", 'permit if { every x in call.args.l { x == "b" } }', "negative or always true"),
    after("permit_total_name", "permit if call.tool", "negative or always true"),
    after(
        "not_startswith",
        'permit if not startswith(call.args.to, "x")',
        "`not` over `call.args.to`",
        column=11,
    ),
    after("not_compare", 'deny contains "x" if not call.args.n > 3', "`not` over `call.args.n`", column=22),
    after("not_in", 'deny contains "x" if not call.args.to in {"a"}', "`not` over `call.args.to`", column=22),
    after("not_input", 'deny contains "x" if not input.a.b == 1', "`not` over `input.a.b`", column=22),
    after(
        "not_function",
        'deny contains "x" if not _f(input.x)\n_f(x) if x == 1',
        "`not` over `input.x`",
        column=22,
    ),
    after(
        "not_nested_call", 'deny contains "x" if not startswith(lower(input.x), "a")', "`not` over", column=22
    ),
    after(
        "not_index",
        'deny contains "x" if not _ok[input.x]\n_ok := {"a": true}',
        "`not` over `input.x`",
        column=22,
    ),
    after(
        "not_arithmetic",
        'deny contains "x" if not call.args.n + 1 > 3',
        "`not` over `call.args.n + 1`",
        column=22,
    ),
    after(
        "not_in_every",
        'deny contains "x" if { every y in call.args.l { not y.z == 1 } }',
        "`not` over `y.z`",
        column=49,
    ),
    after(
        "not_in_comprehension", "_s := {y | some y in input.l; not y.z == 1}", "`not` over `y.z`", column=31
    ),
    after("not_else", "_s if { input.a } else if { not input.b == 1 }", "`not` over `input.b`", column=29),
    after("not_block", 'deny contains "x" if not { input.x }', "`not` over", column=22),
    after("in_value", '_known := "a" in input.list', "`in` is used as a value", column=11),
    after("in_assigned", '_k if { x := "a" in input.list; x }', "`in` is used as a value", column=14),
    after("in_argument", '_k if { count([y | y := ("a" in input.list)]) == 1 }', "`in` is used as a value"),
    after("in_compare", '_k if ("a" in input.list) == false', "`in` is used as a value"),
    after("now", "_t := time.now_ns()", "`time.now_ns` is refused", column=7),
    after("rand", '_t := rand.intn("a", 10)', "`rand.intn` is refused", column=7),
    after("uuid", '_t := uuid.rfc4122("a")', "`uuid.rfc4122` is refused", column=7),
    after(
        "http",
        '_t := http.send({"method": "get", "url": "http://127.0.0.1"})',
        "`http.send` is refused",
        column=7,
    ),
    after("runtime", "_t := opa.runtime()", "`opa.runtime` is refused", column=7),
    after("jwt", '_t := io.jwt.decode("a")', "`io.jwt.decode` is refused", column=7),
    after("strings_count", '_t := strings.count("a", "b")', "`strings.count` is refused", column=7),
    after("print", "_t if print(1)", "`print` is refused", column=7),
    after("sprintf_d", '_t := sprintf("%d", [1])', "constant format of %v", column=15),
    after("sprintf_dynamic", "_t := sprintf(input.f, [1])", "constant format of %v", column=15),
    after(
        "sprintf_compared",
        'deny contains "x" if sprintf("%v", [call.args.n]) == "1"',
        "must decide nothing",
        column=22,
    ),
    after("sprintf_helper", '_t := sprintf("%v", [call.tool])', "must decide nothing", column=7),
    after(
        "sprintf_key",
        'limit contains {"key": sprintf("%v", [call.tool]), "max": 1, "per_s": 1}',
        "must decide nothing",
    ),
    after(
        "sprintf_digits",
        'deny contains "x" if contains(sprintf("%v", [call.args]), "e+")',
        "must decide nothing",
    ),
    after(
        "sprintf_set",
        'deny contains "x" if contains(sprintf("%v", [call.args]), "set")',
        "must decide nothing",
    ),
    after(
        "every_matched",
        "_t if { every x in call.args.l { x = 1 } }",
        "`x` of `every` is matched here",
        column=34,
    ),
    after(
        "every_matched_list",
        "_t if { every k, x in call.args.l { [k, x] = [0, 1] } }",
        "`k` of `every` is matched",
        column=37,
    ),
    after(
        "every_matched_within",
        "_t if { every x in [1] { count([1 | x = 2]) == 1 } }",
        "`x` of `every` is matched",
        column=37,
    ),
    after(
        "every_walked",
        '_t if { every x in [1] { walk(["q"], [_, x]) } }',
        "`x` of `every` is matched",
        column=26,
    ),
    after(
        "order_set",
        'deny contains "x" if call.args.o < {1}',
        "may ask if a set is less than an object",
        column=22,
    ),
    after("order_set_named", "_t if { x := {1}; call.args.o >= x }", "may ask if a set is less", column=19),
    after("order_set_rule", '_t if call.args.o < _s\n_s contains "a"', "may ask if a set is less", column=7),
    after("order_set_inside", "_t if [call.args.o] < [{1}]", "may ask if a set is less", column=7),
    after("order_set_argument", "_f(x, y) if x < y", "may ask if a set is less", column=13),
    after("order_targets", "_t if call.args.o < call.targets", "may ask if a set is less", column=7),
    after("order_sort", "_t := sort([{1}, call.args.o])", "`sort` of what may hold sets", column=7),
    after("order_max", "_t := max({{1}, call.args.o})", "`max` of what may hold sets", column=7),
    after("sprintf_count", '_t := sprintf("%v %v", [1])', "needs a list of 2 values", column=15),
    after("sprintf_list", '_t := sprintf("%v", input.l)', "needs a list of 1 values", column=15),
    after("upper", "_t := upper(input.a)", "`upper` is refused", column=7),
    after("to_number", "_t := to_number(input.a)", "`to_number` is refused", column=7),
    after("pattern_built", "_t if regex.match(input.a, call.tool)", "must be a constant text", column=19),
    after("pattern_class", "_t if regex.match(`^\\w+$`, call.tool)", "is ASCII in one", column=19),
    after("pattern_sets", "_t if regex.match(`[a-z&&[b]]`, call.tool)", "set operation", column=19),
    after("pattern_look", "_t if regex.match(`a(?=b)`, call.tool)", "only one of them knows", column=19),
    after("pattern_repeat", "_t if regex.match(`a{1001}`, call.tool)", "more than 1000 times", column=19),
    after("pattern_invalid", "_t if regex.match(`a(b`, call.tool)", "it is not valid", column=19),
    after(
        "time_of_argument",
        "_t := time.parse_rfc3339_ns(call.args.t)",
        "only for input.context.time",
        column=29,
    ),
    after("not_wildcard", 'deny contains "x" if not call.args.l[_]', "`_` is unsafe", column=38),
    after("circular", "_t if { x := lower(y); y := lower(x) }", "is unsafe", column=20),
    after("reused", "_t if { x := lower(x) }", "`x` is unsafe", column=20),
    after(
        "every_unused",
        "_t if { every x in input.l { input.a } }",
        "`x` is declared and never used",
        column=15,
    ),
    after("some_unused", "_t if { some x; input.a }", "`x` is declared and never used", column=14),
    after("union_first", '_t if { _s | {"a"} == input.l }\n_s contains "b"', "set comprehension to OPA"),
    after("value_alone", "_t if { input.a, input.b }", "this value stands alone"),
    after("key_and_value", "_t if { some v, v in call.args.l }", "`v` is given twice", column=17),
    after("value_holds_key", "_t if { some v, [v] in call.args.l }", "`v` is given twice", column=18),
    after("key_of_every", "_t if { every v, v in call.args.l { v > 1 } }", "`v` is given twice", column=18),
    after("two_arguments", "_f(x, x) := x", "`x` is given twice", column=7),
    after("argument_in_another", "_f(x, [x]) := x", "`x` is given twice", column=8),
    after("object_pattern", '_t if { {"a": x} = call.args.o; x == 1 }', "wants exactly these keys", column=9),
    after(
        "object_pattern_of_two",
        '_t if { {"a": x, "k": y} = call.args.o; x == y }',
        "wants exactly these keys",
        column=9,
    ),
    after(
        "object_pattern_declared",
        '_t if { {"a": x} := call.args.o; x == 1 }',
        "wants exactly these keys",
        column=9,
    ),
    after(
        "object_pattern_right",
        '_t if { call.args.o = {"a": x}; x == 1 }',
        "wants exactly these keys",
        column=23,
    ),
    after(
        "object_pattern_inside",
        '_t if { [y, {"b": x}] := call.args.l; x == y }',
        "wants exactly these keys",
        column=13,
    ),
    after(
        "object_pattern_some",
        '_t if { some {"a": x} in call.args.l; x == 1 }',
        "wants exactly these keys",
        column=14,
    ),
    after("object_pattern_argument", '_f({"a": x}) if x == 1', "wants exactly these keys", column=4),
    after(
        "object_pattern_walk",
        '_t if { walk(call.args, [_, {"a": x}]); x == 1 }',
        "wants exactly these keys",
        column=29,
    ),
    after("trial_type", '_t if abs("text") == 1', "expects numeric argument", column=12),
    after("trial_conflict", "_t := 1\n\n_t := 2", "the policy engine refuses it", line=3),
    after(
        "trial_division", "_t if 1 / (count(call.args) - count(call.args)) == 1", "divide by zero", column=9
    ),
    after("interpolation", '_t := $"a {call.tool}"', "not Rego"),
    after("walk_value", "_t if walk(call.result, [_, 1])", "may be a single value", column=12),
    after(
        "declared_late", "_t if { input.l[x] == 1; x := 2 }", "`x` is declared here and used above", column=26
    ),
    after(
        "declared_twice",
        "_t if { x := input.a; x := 2; x == 2 }",
        "is declared here and used above",
        column=23,
    ),
    after(
        "some_late", "_t if { input.l[x] == 1; some x in [1] }", "is declared here and used above", column=31
    ),
    after("never_matches", '_t if { [x, y] = {"a"}; x == y }', "can never match"),
    after("reused_in_brackets", "_t if { x := _m[x]; x }\n_m[1] := 2", "`x` is unsafe", column=17),
    after("exponent", "_t := 1e3", "a number with an exponent", column=7),
    after("unknown_function", '_t := startwith(input.a, "b")', 'did you mean "startswith"', column=7),
    after(
        "unknown_in_comprehension", "_t := [y | y := lenght(input.a)]", "unknown function `lenght`", column=17
    ),
    after("arity", "_t := startswith(input.a)", "`startswith` takes 2 arguments, not 1", column=7),
    after("arity_own", "_t := _f(1, 2, 3)\n_f(x) := x", "`_f` takes 1 argument, not 3", column=7),
    after("arity_call", '_t := call.arg("x")', "`call.arg` takes 2 arguments, not 1", column=7),
    after("call_unknown_function", '_t := call.trust("/x")', 'did you mean "trusted"', column=7),
    after("call_unknown", "_t := call.tol", 'did you mean "tool"', column=7),
    after("call_helper", "_t := call._provenance", "has no such name", column=7),
    after("call_function_value", "_t := call.trusted", "is a function", column=7),
    after("call_whole", "_t := call", "may not be used", column=7),
    after("not_a_function", "_t := _a(1)\n_a := 1", "is a rule, not a function", column=7),
    after("main_used", "_t := data.fumehood.main.decision", "may not be used", column=7),
    after("all_policies", "_t := data.policies", "reads whole packages", column=7),
    after("each_policy", "_t := {p | data.policies[p].permit}", "reads whole packages", column=12),
    after("other_unknown", "_t := data.policies.x._nothing", "no such rule", column=7),
    after("data_unknown", "_t := data.limits.max", "no data document", column=7),
    after("data_whole", "_t := data", "no data document", column=7),
    after("unsafe", "_t if input.a == admins", "`admins` is unsafe", column=18),
    after("unsafe_head", "_t contains y if input.a", "`y` is unsafe", column=13),
    after("unsafe_not", "_t if { not input.a[i] }", "`i`", column=9),
    after("unsafe_call", '_t if startswith(x, "a")', "`x` is unsafe", column=18),
    after("unsafe_some", "_t if { some x; x > 3 }", "`x` is unsafe", column=17),
    after("unsafe_every", "_t if { every x in input.l { x == y } }", "`y` is unsafe", column=35),
    after("unsafe_comprehension", "_t := [z | some y in input.l]", "`z` is unsafe", column=8),
    after("unsafe_function", "_f(x) := y", "`y` is unsafe", column=10),
    after("hides_import", "_t if { call := input.x; call }", "hides what `call` means", column=9),
    after("hides_import_argument", "_f(call) := call", "hides what `call` means", column=4),
    after(
        "hides_import_some", "_t if { some call in input.l; call == 1 }", "hides what `call` means", column=14
    ),
    after("recursion", "_a if _b\n_b if _a", "recursion: _a → _b → _a"),
    after("recursion_function", "_f(x) := _f(x)", "recursion: _f → _f"),
    after("recursion_through_data", "_a if data.policies.x._a", "recursion: _a → _a"),
    after("with", '_t if call.tool == "x" with input as {}', "`with` is for tests", column=24),
    after("keyword_field", "_t if input.default == 1", "is a keyword", column=13),
    after(
        "misspelt_key", 'deny contains {"reasn": "x"} if call.tool == "b"', "nobody understands", column=15
    ),
    after(
        "unknown_key",
        'deny contains {"reason": "x", "level": 3} if call.tool == "b"',
        "nobody understands",
        column=15,
    ),
    after(
        "number_reason", 'deny contains {"reason": 3} if call.tool == "b"', "must be fixed text", column=26
    ),
    after(
        "odd_risk",
        'approve contains {"reason": "x", "risk": "hgh"} if call.tool == "b"',
        "nobody understands",
        column=18,
    ),
    after("no_risk", 'approve contains {"reason": "x"} if call.tool == "b"', "nobody understands", column=18),
    after("approve_text", 'approve contains "please" if call.tool == "b"', "nobody understands", column=18),
    after(
        "negative_limit",
        'limit contains {"key": "a", "max": -1, "per_s": 60} if call.tool == "b"',
        "nobody",
        column=16,
    ),
    after(
        "limit_no_max",
        'limit contains {"key": call.tool, "per_s": 60} if call.tool == "b"',
        "nobody",
        column=16,
    ),
    after(
        "redact_both",
        'redact contains {"path": "/a", "pattern": "b"} if call.tool == "b"',
        "nobody",
        column=17,
    ),
    after("redact_not_pointer", 'redact contains {"path": "a"} if call.tool == "b"', "nobody", column=17),
    after("confine_number", 'confine contains 3 if call.tool == "b"', "nobody understands", column=18),
    after(
        "reason_varies",
        'deny contains {"reason": call.args.to} if call.tool == "b"',
        "must be fixed text",
        column=26,
    ),
    after("reason_message", "deny contains msg if msg := call.args.to", "must be fixed text", column=15),
    after(
        "remedy_varies",
        'deny contains {"reason": "x", "remedy": call.tool} if call.tool == "b"',
        "fixed text",
        column=41,
    ),
    after(
        "detail_undefined",
        'deny contains {"reason": "x", "detail": call.args.to} if call.tool == "b"',
        "`call.args.to` may be undefined",
        column=41,
    ),
    after(
        "limit_undefined",
        'limit contains {"key": input.subject.id, "max": 1, "per_s": 1}',
        "may be undefined",
    ),
    after("item_undefined", "_s contains y.z if some y in call.args.l", "`y.z` may be undefined", column=13),
    after("key_undefined", "_m[y.z] := 1 if some y in call.args.l", "`y.z` may be undefined", column=4),
    after("value_undefined", "_m[y] := call.args.n if some y in call.args.l", "may be undefined", column=10),
    Bad(
        "import_main",
        'package policies.x\n\nimport data.fumehood.main\n\npermit if main.decision == "b"\n',
        3,
        1,
        "names nothing that a policy may use",
    ),
    Bad(
        "import_whole_policy",
        "package policies.x\n\nimport data.policies.y\n\npermit if y.permit == true\n",
        3,
        1,
        "names nothing that a policy may use",
    ),
    Bad("v0", 'package policies.x\n\npermit { input.a == "b" }\n', 3, 8, "not Rego"),
    Bad("long_line", 'package policies.x\n\npermit if input.a == "' + "x" * 1100 + '"\n', 3, 1, "not Rego"),
]

GOOD = {
    "plain": HEAD,
    "default_false": HEAD + "default permit := false\n",
    "true_if": HEAD + 'permit := true if call.tool == "b"\n',
    "not_bare": HEAD + 'deny contains "x" if not input.subject.properties.user\n',
    "not_bare_args": HEAD + 'deny contains "x" if { call.tool == "b"; not call.args.to }\n',
    "not_helper": HEAD + 'deny contains "x" if not _ok\n_ok if call.args.n > 3\n',
    "not_total": HEAD + 'deny contains "x" if not call.tool == "b"\n',
    "not_total_function": HEAD + 'deny contains "x" if not call.trusted("/to")\n',
    "not_arg": HEAD + 'deny contains "x" if not startswith(call.arg("to", ""), "a")\n',
    "not_bound": HEAD + 'deny contains "x" if { to := call.args.to; not startswith(to, "a") }\n',
    "not_url": HEAD + 'deny contains "x" if not call.url("/u").host in {"a.example"}\n',
    "not_constant_set": HEAD + 'deny contains "x" if not call.tool in _tools\n_tools := {"a", "b"}\n',
    "not_partial_set": HEAD + 'deny contains "x" if not call.tool in _tools\n_tools contains "a"\n',
    "not_in_function": HEAD + "_f(x) if not x == 1\n_g if _f(call.args.n)\n",
    "not_built_in": HEAD + 'deny contains "x" if { to := call.args.to; not startswith(lower(to), "a") }\n',
    "not_calculated": HEAD + 'deny contains "x" if { n := call.args.n; not n + 1 > 3 }\n',
    "item_of_body": HEAD + "_s contains z if { some y in call.args.l; z := y.z }\n",
    "not_every": HEAD + "_f if { every x in call.args.l { not x == 1 } }\n",
    "in_statement": HEAD + 'permit if { call.tool == "b"; call.args.to in {"a"} }\n',
    "some_in": HEAD + 'permit if { some x in call.args.l; x == "b" }\n',
    "index": HEAD + 'permit if { call.args.l[i] == "b"; i < 3 }\n',
    "wildcard": HEAD + 'permit if call.args.l[_] == "b"\n',
    "else": HEAD + '_f := 1 if { call.tool == "b" } else := 2\npermit if _f == 1\n',
    "function": HEAD + "_f(x) := y if { y := x + 1 }\npermit if _f(call.args.n) == 2\n",
    "pattern": HEAD + '_f if { [a, [b, 3]] := call.args.l; a == b }\n_g := x if x := {"a": call.tool}\n',
    "object_compared": HEAD + '_h if {"a": 1} == call.args.o\n',
    "unify": HEAD + "_f if { [a, b] = call.args.l; a == b }\n",
    "walk": HEAD + "_f if { walk(call.args, [steps, value]); count(steps) > 3; value == 1 }\n",
    "names_of_their_own": HEAD
    + "_f if { a := [z | some z in call.args.l]; some z in call.args.l; z == a[0] }\n",
    "walk_list": HEAD + "_f if { walk([call.result], [_, value]); value == 1 }\n",
    "comprehension": HEAD + 'deny contains "x" if count({k | some k, v in call.args; v == null}) > 0\n',
    "sprintf": HEAD
    + 'deny contains {"reason": "x", "detail": sprintf("%v%%", [call.tool])} if call.tool == "b"\n',
    "sprintf_word": HEAD + 'withhold contains "x" if contains(sprintf("%v", [call.result]), "sk-secret")\n',
    "every_compared": HEAD + "_f if { every x in call.args.l { x == 1 } }\n",
    "order_single": HEAD
    + '_f if { x := call.args.a; x < 3 }\n_g if count(_s) <= call.args.n\n_s contains "a"\n'
    + "_h if call.args.a < call.args.b\n_i(x) if x > 3\n_j if _i(call.args.n)\n",
    "order_members": HEAD
    + "_f if { some x in _s; call.args.n > x }\n_s contains 1\n_g := sort([3, call.args.n])\n",
    "limit_key": HEAD
    + 'limit contains {"key": concat("/", ["a", call.tool]), "max": 1, "per_s": 1} if call.tool == "b"\n',
    "text_reason": HEAD + 'deny contains "never" if call.tool == "b"\n',
    "confine_object": HEAD + 'confine contains {"profile": "shell", "read": ["/x"]} if call.tool == "b"\n',
    "all_results": HEAD
    + 'withhold contains "x" if call.result.secret\nredact contains {"path": "/a"} if call.result\n'
    'label contains "internal" if call.tool == "b"\n',
    "connect": HEAD
    + 'permit_connect if call.connect_to.host == "a.example"\n'
    + 'deny_connect contains "x" if call.connect_to.port == 22\n',
    "own_data_reference": HEAD + "_a := 1\n_b := data.policies.x._a\n",
    "import_input": 'package policies.x\n\nimport input.resource.id as tool\n\npermit if tool == "b"\n',
    "import_rego_v1": 'package policies.x\n\nimport rego.v1\n\npermit if input.resource.id == "b"\n',
    "helper_positive": HEAD
    + 'permit if _ok\n_ok if call.tool == "b"\n_ok if { call.tool == "c"; not call.args.x }\n',
    "time": HEAD
    + "_hour := hour if [hour, _, _] := time.clock(time.parse_rfc3339_ns(input.context.time))\n"
    + 'permit if { _hour > 8; call.tool == "b" }\n',
    "object_rule": HEAD + '_max["a"] := 1\n_max["b"] := 2\npermit if call.args.n < _max[call.tool]\n',
    "raw_string": HEAD + "permit if regex.match(`^[a-z]+$`, call.args.name)\n",
}
