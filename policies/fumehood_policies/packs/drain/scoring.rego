# METADATA
# title: Scoring
# description: |
#   Enough answers of a model are a copy of it. One row is scored at a time, and each agent may ask so
#   many times an hour; the count is kept by the guard, durably, for all its processes.
# custom:
#   controls: [LLM10:2025, AML.T0024.002, AML.T0034]
package policies.scoring

import data.fumehood.call

# METADATA
# title: One row at a time
# description: A row is a list or an object of at most 256 scalars. Who asks must be known, or nobody counts it.
permit if {
	call.tool == "score"
	count(_agent) > 0
	_is_row
}

# METADATA
# title: Twenty scores an hour
# custom:
#   controls: [LLM10:2025, AML.T0024.002]
limit contains {"key": concat("/", [_agent, call.tool]), "max": 20, "per_s": 3600} if call.tool == "score"

# METADATA
# title: No bulk scoring
# custom:
#   controls: [AML.T0024.002]
deny contains {
	"reason": "rows are scored one at a time",
	"remedy": "Send one row of features.",
	"controls": ["LLM10:2025", "AML.T0024.002"],
} if {
	call.tool == "score"
	some value in call.args.features
	_is_nested(value)
}

default _agent := ""

_agent := input.subject.id if is_string(input.subject.id)

_is_row if {
	count(call.args.features) > 0
	count(call.args.features) <= 256
	not _has_nested
}

_has_nested if {
	some value in call.args.features
	_is_nested(value)
}

_is_nested(value) if is_array(value)

_is_nested(value) if is_object(value)
