# METADATA
# title: Hours and roles
# description: |
#   What moves money, gives access or destroys is done in working hours, when somebody is there to notice, and
#   only for users who have the role for it. This pack permits nothing by itself.
# custom:
#   controls: [ASI02, ASI03, LLM06:2025, AML.T0053]
package policies.hours_and_roles

import data.fumehood.call

# METADATA
# title: Only in the hours
# custom:
#   controls: [ASI02]
deny contains {
	"reason": "this is only done in working hours",
	"remedy": "Try again in working hours.",
	"retryable": true,
	"controls": ["ASI02"],
} if {
	_is_bound_to_hours
	not _is_in_hours
}

# METADATA
# title: Only for users with a role
# description: The roles are those of the user for whom the agent acts, given by who opened the session.
# custom:
#   controls: [ASI03, LLM06:2025]
deny contains {
	"reason": "the user has none of the roles that this needs",
	"remedy": "Ask somebody who has the role.",
	"detail": _needed,
	"controls": ["ASI03", "LLM06:2025"],
} if {
	count(_needed) > 0
	not _has_role
}

_is_bound_to_hours if call.kind in data.hours_and_roles.kinds

_is_bound_to_hours if call.tool in data.hours_and_roles.tools

_is_in_hours if {
	utc := time.parse_rfc3339_ns(input.context.time)
	there := utc + (data.hours_and_roles.utc_offset_minutes * 60000000000)
	time.weekday(there) in data.hours_and_roles.days
	[hour, _, _] := time.clock(there)
	hour >= data.hours_and_roles.from_hour
	hour < data.hours_and_roles.to_hour
}

_needed contains role if some role in data.hours_and_roles.roles_of_kinds[call.kind]

_needed contains role if some role in data.hours_and_roles.roles_of_tools[call.tool]

_has_role if {
	some role in input.subject.properties.roles
	role in _needed
}
