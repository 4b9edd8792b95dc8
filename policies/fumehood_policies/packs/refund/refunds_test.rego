package policies.refunds_test

import data.fumehood.main
import data.policies.refunds

test_permit if refunds.permit with input as {"resource": {"id": "read_ticket"}}

test_main if main.decision.effect == "permit" with input as {"action": {"name": "execute_tool"}, "resource": {"id": "read_ticket"}}

test_main_deny if {
	d := main.decision with input as {"action": {"name": "execute_tool"}, "resource": {"id": "nothing"}}
	d.effect == "deny"
}
