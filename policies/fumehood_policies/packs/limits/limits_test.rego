package policies.limits_test

import data.fumehood.main
import data.policies.limits

_document(agent, tool, kind, args) := {
	"subject": {"type": "agent", "id": agent},
	"action": {"name": "execute_tool", "properties": {"args": args}},
	"resource": {"type": "tool", "id": tool, "properties": {"annotations": {"kind": kind}}},
}

test_each_tool_and_all_together_are_counted_for_each_agent if {
	found := limits.limit with input as _document("bot", "search", "read", {})
	found == {
		{"key": "limits/bot/search", "max": 120, "per_s": 3600},
		{"key": "limits/bot", "max": 1000, "per_s": 3600},
	}
}

test_tool_may_have_a_limit_of_its_own if {
	found := limits.limit with input as _document("bot", "score", "read", {})
		with data.limits.tools as {"score": {"max": 20, "per_s": 60}}
	{"key": "limits/bot/score", "max": 20, "per_s": 60} in found
}

test_money_is_counted_by_its_amount if {
	found := limits.limit with input as _document("bot", "pay", "money", {"amount_usd": 40})
	{"key": "limits/bot/money", "max": 1000, "per_s": 86400, "cost": 40} in found
	denied := limits.deny with input as _document("bot", "pay", "money", {"amount_usd": 40})
	denied == set()
}

test_several_amounts_add_up if {
	found := limits.limit with input as _document("bot", "pay", "money", {"amount_usd": 40, "amount": 2})
	{"key": "limits/bot/money", "max": 1000, "per_s": 86400, "cost": 42} in found
}

test_money_without_a_known_amount_is_denied if {
	every args in [{}, {"amount_usd": "40"}, {"amount_usd": -40}, {"amount_usd": 0}, {"amount_usd": null}, {"sum": 4}] {
		decision := main.decision with input as _document("bot", "pay", "money", args)
		decision.effect == "deny"
		"policies.limits.deny" in decision.policy.rules
	}
}

test_one_bad_amount_among_good_ones_is_denied if {
	denied := limits.deny with input as _document("bot", "pay", "money", {"amount_usd": 40, "amount": -39})
	count(denied) == 1
}

test_agent_without_a_name_is_denied if {
	denied := limits.deny with input as object.remove(_document("bot", "search", "read", {}), ["subject"])
	count(denied) == 1
	found := limits.limit with input as _document("", "search", "read", {})
	found == set()
}
