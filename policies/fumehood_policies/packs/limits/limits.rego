# METADATA
# title: Limits
# description: |
#   How often one agent may call a tool, all tools together, and how much money it may move in a day. The guard
#   counts, durably and for all its processes. This pack permits nothing by itself.
# custom:
#   controls: [ASI02, ASI08, LLM10:2025, AML.T0034, AML.T0029]
package policies.limits

import data.fumehood.call

# METADATA
# title: Calls of one tool
# custom:
#   controls: [LLM10:2025, AML.T0034]
limit contains {
	"key": concat("/", ["limits", _agent, call.tool]),
	"max": most,
	"per_s": per_s,
} if {
	count(_agent) > 0
	most := _rate.max
	per_s := _rate.per_s
}

# METADATA
# title: Calls of all tools together
# description: An agent that is caught in a loop calls many tools, each not very often.
# custom:
#   controls: [ASI08, LLM10:2025, AML.T0029]
limit contains {
	"key": concat("/", ["limits", _agent]),
	"max": most,
	"per_s": per_s,
} if {
	count(_agent) > 0
	most := data.limits.all_tools.max
	per_s := data.limits.all_tools.per_s
}

# METADATA
# title: Money in a day
# description: The sum of what is moved counts, not the number of calls.
# custom:
#   controls: [ASI02, LLM10:2025]
limit contains {
	"key": concat("/", ["limits", _agent, "money"]),
	"max": most,
	"per_s": per_s,
	"cost": cost,
} if {
	call.kind == "money"
	count(_agent) > 0
	_is_amount_known
	cost := sum(_amounts)
	most := data.limits.money.max
	per_s := data.limits.money.per_s
}

# METADATA
# title: Money without an amount
# description: What cannot be counted cannot be limited; a negative amount would give budget back.
# custom:
#   controls: [ASI02]
deny contains {
	"reason": "the amount of money that this call moves is not known",
	"remedy": "Give the amount as a number above zero.",
	"controls": ["ASI02"],
} if {
	call.kind == "money"
	not _is_amount_known
}

# METADATA
# title: Nobody is not counted
# custom:
#   controls: [ASI03]
deny contains {
	"reason": "the agent has no name, so its calls cannot be counted",
	"remedy": "Open the session with guard.session(agent=…).",
	"controls": ["ASI03"],
} if {
	_agent == ""
}

default _agent := ""

_agent := input.subject.id if is_string(input.subject.id)

default _own_rate := {}

_own_rate := data.limits.tools[call.tool]

_rate := object.union(data.limits.each_tool, _own_rate)

_amounts := [value | some name in data.limits.amounts; value := call.args[name]]

_is_amount_known if {
	count(_amounts) > 0
	every amount in _amounts {
		is_number(amount)
		amount > 0
	}
}
