package policies.refunds_test

import data.fumehood.main
import data.policies.refunds

_document(tool, args, origins) := {
	"subject": {"type": "agent", "id": "support-bot", "properties": {"roles": []}},
	"action": {"name": "execute_tool", "properties": {"args": args}},
	"resource": {"type": "tool", "id": tool},
	"context": {
		"time": "2026-01-01T00:00:00.000Z",
		"session": {"id": "s-1"},
		"provenance": {"args": {pointer: [{"origin": origin, "source": origin}] | some pointer, origin in origins}},
	},
}

_refund(amount, origins) := _document("issue_refund", {"order_id": "A-1", "amount_usd": amount}, origins)

_all_user := {"/order_id": "user", "/amount_usd": "user"}

_asks(decision) := {obligation.item.reason | some obligation in decision.obligations; obligation.type == "approve"}

test_reading_a_ticket_is_permitted if {
	decision := main.decision with input as _document("read_ticket", {"ticket_id": 881}, {"/ticket_id": "user"})
	decision.effect == "permit"
	count(decision.obligations) == 0
}

test_small_refund_named_by_the_user_runs_at_once if {
	decision := main.decision with input as _refund(40, _all_user)
	decision.effect == "permit"
	count(decision.obligations) == 0
	decision.policy.rules == {"policies.refunds.permit"}
}

test_injected_amount_waits_for_a_person if {
	decision := main.decision with input as _refund(500, {"/order_id": "user", "/amount_usd": "untrusted"})
	decision.effect == "permit"
	_asks(decision) == {"the amount is not known to come from the user"}
}

test_ticket_number_is_no_amount if {
	decision := main.decision with input as _refund(881, {"/order_id": "user", "/amount_usd": "unknown"})
	_asks(decision) == {"the amount is not known to come from the user"}
}

test_injected_order_waits_for_a_person if {
	decision := main.decision with input as _refund(40, {"/order_id": "untrusted", "/amount_usd": "user"})
	_asks(decision) == {"the order is not known to come from the user"}
}

test_nothing_known_of_the_arguments_waits_twice if {
	decision := main.decision with input as _refund(40, {})
	count(_asks(decision)) == 2
}

test_amount_found_in_both_places_is_trusted if {
	sources := [{"origin": "untrusted", "source": "read_ticket#1"}, {"origin": "user", "source": "user"}]
	document := json.patch(
		_refund(40, _all_user),
		[{"op": "replace", "path": "/context/provenance/args/~1amount_usd", "value": sources}],
	)
	decision := main.decision with input as document
	count(decision.obligations) == 0
}

test_bound_is_inclusive if {
	refunds.permit with input as _refund(1000, _all_user)
}

test_large_refund_is_denied if {
	decision := main.decision with input as _refund(1000.01, _all_user)
	decision.effect == "deny"
	decision.policy.rules == {"policies.refunds.deny"}
}

test_zero_is_not_permitted if {
	not refunds.permit with input as _refund(0, _all_user)
}

test_negative_amount_is_not_permitted if {
	not refunds.permit with input as _refund(-40, _all_user)
}

test_null_amount_is_not_permitted if {
	not refunds.permit with input as _refund(null, _all_user)
}

test_text_amount_is_not_permitted if {
	not refunds.permit with input as _refund("40", _all_user)
}

test_absent_amount_is_not_permitted if {
	not refunds.permit with input as _document("issue_refund", {"order_id": "A-1"}, _all_user)
}

test_other_tool_is_not_permitted if {
	decision := main.decision with input as _document("delete_account", {}, {})
	decision.effect == "deny"
	some reason in decision.reasons
	reason.code == "no_permit"
}
