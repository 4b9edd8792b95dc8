package policies.hours_and_roles_test

import data.policies.hours_and_roles as pack

_document(tool, kind, at, roles) := {
	"subject": {"type": "agent", "id": "bot", "properties": {"roles": roles}},
	"action": {"name": "execute_tool", "properties": {"args": {}}},
	"resource": {"type": "tool", "id": tool, "properties": {"annotations": {"kind": kind}}},
	"context": {"time": at},
}

_reasons(document) := reasons if {
	items := pack.deny with input as document
	reasons := {item.reason | some item in items}
}

# 2026-01-05 is a Monday.
test_working_hours_are_from_the_first_hour_to_before_the_last if {
	every at in ["2026-01-05T08:00:00.000Z", "2026-01-09T17:59:59.999Z"] {
		_reasons(_document("pay", "money", at, [])) == set()
	}
	every at in [
		"2026-01-05T07:59:59.999Z",
		"2026-01-05T18:00:00.000Z",
		"2026-01-05T00:00:00.000Z",
		"2026-01-04T12:00:00.000Z",
	] {
		_reasons(_document("pay", "money", at, [])) == {"this is only done in working hours"}
	}
}

test_offset_moves_hours_and_days if {
	found := pack.deny with input as _document("pay", "money", "2026-01-04T23:30:00.000Z", [])
		with data.hours_and_roles.utc_offset_minutes as 540
	found == set()
}

test_call_without_a_time_is_out_of_hours if {
	document := object.remove(_document("pay", "money", "", []), ["context"])
	_reasons(document) == {"this is only done in working hours"}
}

test_other_kinds_are_done_at_any_time if {
	_reasons(_document("look", "read", "2026-01-04T03:00:00.000Z", [])) == set()
}

test_named_tool_is_bound_to_hours_whatever_its_kind if {
	found := pack.deny with input as _document("look", "read", "2026-01-04T03:00:00.000Z", [])
		with data.hours_and_roles.tools as ["look"]
	count(found) == 1
}

_noon := "2026-01-05T12:00:00.000Z"

test_role_is_needed if {
	reason := "the user has none of the roles that this needs"
	every roles in [[], ["support"], ["Admin"]] {
		_reasons(_document("drop_user", "destroy", _noon, roles)) == {reason}
	}
	_reasons(_document("drop_user", "destroy", _noon, ["support", "admin"])) == set()
	_reasons(object.remove(_document("drop_user", "destroy", _noon, []), ["subject"])) == {reason}
}

test_tool_may_need_a_role_of_its_own if {
	found := pack.deny with input as _document("pay", "money", _noon, ["support"])
		with data.hours_and_roles.roles_of_tools as {"pay": ["finance"]}
	count(found) == 1
	none := pack.deny with input as _document("pay", "money", _noon, ["finance"])
		with data.hours_and_roles.roles_of_tools as {"pay": ["finance"]}
	none == set()
}
