package policies.scoring_test

import data.fumehood.main

_document(agent, features) := {
	"subject": {"type": "agent", "id": agent},
	"action": {"name": "execute_tool", "properties": {"args": {"features": features}}},
	"resource": {"type": "tool", "id": "score"},
}

_limits(decision) := {obligation.item | some obligation in decision.obligations; obligation.type == "limit"}

test_one_row_is_scored_and_counted if {
	decision := main.decision with input as _document("quant-bot", [0.1, 2, 3])
	decision.effect == "permit"
	_limits(decision) == {{"key": "quant-bot/score", "max": 20, "per_s": 3600}}
}

test_named_features_are_a_row_too if {
	decision := main.decision with input as _document("quant-bot", {"age": 31, "zip": "10115"})
	decision.effect == "permit"
}

test_each_agent_has_a_count_of_its_own if {
	first := main.decision with input as _document("a", [1])
	second := main.decision with input as _document("b", [1])
	_limits(first) != _limits(second)
}

test_bulk_is_denied if {
	decision := main.decision with input as _document("quant-bot", [[1, 2], [3, 4]])
	decision.effect == "deny"
	decision.policy.rules == {"policies.scoring.deny"}
}

test_objects_in_bulk_are_denied if {
	decision := main.decision with input as _document("quant-bot", [{"age": 31}, {"age": 32}])
	decision.effect == "deny"
}

test_nothing_to_score_is_not_permitted if {
	decision := main.decision with input as _document("quant-bot", [])
	decision.effect == "deny"
}

test_text_is_no_row_beyond_the_bound if {
	decision := main.decision with input as _document("quant-bot", [value | some value in numbers.range(1, 257)])
	decision.effect == "deny"
}

test_nobody_is_not_permitted if {
	decision := main.decision with input as object.remove(_document("quant-bot", [1]), ["subject"])
	decision.effect == "deny"
}
