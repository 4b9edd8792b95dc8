# METADATA
# title: The decision
# description: |
#   Joins what every package policies.<name> says about the phase in input.action.name: deny overrides,
#   then permit, then the obligations together. A rule of the wrong type becomes an obligation that
#   nobody understands, and the guard denies those. Policy authors never edit this file.
package fumehood.main

# METADATA
# description: |
#   {effect, reasons, obligations, policy}. A reason is {code, rule, item}, an obligation
#   {type, rule, item}; `item` is what the rule said, unchanged.
# entrypoint: true
decision := {
	"effect": _effect,
	"reasons": _reasons,
	"obligations": _obligations,
	"policy": {"revision": _revision, "rules": _rules},
}

# METADATA
# description: |
#   {decision, said}: the same decision, and what it was made of: [package, rule, type, value]. It is asked for
#   at an OPA server by a guard that only observes some packages, or all.
observed := {
	"decision": decision,
	"said": {[name, rule, type_name(value), value] | some [name, rule, value] in _said},
}

default _phase := ""

_phase := input.action.name

default _revision := ""

_revision := data.fumehood.bundle.revision

# What the packages say in this phase: [package, rule, value]. The names are written out, so that no
# other rule of any package is evaluated.
_said contains [name, "permit", value] if {
	_phase == "execute_tool"
	some name
	value := data.policies[name].permit
}

_said contains [name, "deny", value] if {
	_phase == "execute_tool"
	some name
	value := data.policies[name].deny
}

_said contains [name, "approve", value] if {
	_phase == "execute_tool"
	some name
	value := data.policies[name].approve
}

_said contains [name, "confine", value] if {
	_phase == "execute_tool"
	some name
	value := data.policies[name].confine
}

_said contains [name, "limit", value] if {
	_phase == "execute_tool"
	some name
	value := data.policies[name].limit
}

_said contains [name, "permit_connect", value] if {
	_phase == "connect"
	some name
	value := data.policies[name].permit_connect
}

_said contains [name, "deny_connect", value] if {
	_phase == "connect"
	some name
	value := data.policies[name].deny_connect
}

_said contains [name, "approve_connect", value] if {
	_phase == "connect"
	some name
	value := data.policies[name].approve_connect
}

_said contains [name, "withhold", value] if {
	_phase == "return_result"
	some name
	value := data.policies[name].withhold
}

_said contains [name, "redact", value] if {
	_phase == "return_result"
	some name
	value := data.policies[name].redact
}

_said contains [name, "label", value] if {
	_phase == "return_result"
	some name
	value := data.policies[name].label
}

_type := {
	"approve": "approve",
	"approve_connect": "approve",
	"confine": "confine",
	"limit": "limit",
	"redact": "redact",
	"label": "label",
}

_code := {
	"deny": "denied_by_policy",
	"deny_connect": "denied_by_policy",
	"withhold": "withheld_by_policy",
}

_permits := {"permit", "permit_connect"}

_full(name, rule) := concat(".", ["policies", name, rule])

_granting contains _full(name, rule) if {
	some [name, rule, value] in _said
	rule in _permits
	value == true
}

_refusals contains {"code": code, "rule": _full(name, rule), "item": item} if {
	some [name, rule, value] in _said
	code := _code[rule]
	is_set(value)
	some item in value
}

_asked contains {"type": type, "rule": _full(name, rule), "item": item} if {
	some [name, rule, value] in _said
	type := _type[rule]
	is_set(value)
	some item in value
}

_strange contains {"type": "unknown", "rule": _full(name, rule), "item": value} if {
	some [name, rule, value] in _said
	not rule in _permits
	not is_set(value)
}

_strange contains {"type": "unknown", "rule": _full(name, rule), "item": value} if {
	some [name, rule, value] in _said
	rule in _permits
	not is_boolean(value)
}

default _effect := "deny"

_effect := "permit" if {
	count(_missing) == 0
	count(_refusals) == 0
}

_missing contains {"code": "no_permit", "item": "no policy permits this call"} if {
	_phase in {"execute_tool", "connect"}
	count(_granting) == 0
}

_missing contains {"code": "unknown_phase", "item": "the policies know no such phase"} if {
	not _phase in {"execute_tool", "connect", "return_result"}
}

default _reasons := set()

_reasons := _refusals if count(_refusals) > 0

_reasons := _missing if count(_refusals) == 0

default _obligations := set()

_obligations := _strange if _effect == "deny"

_obligations := _asked | _strange if _effect == "permit"

_rules := {reason.rule | some reason in _refusals} if _effect == "deny"

_rules := _granting | {asked.rule | some asked in _asked} if _effect == "permit"
