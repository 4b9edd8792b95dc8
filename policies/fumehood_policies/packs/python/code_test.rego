package policies.code_test

import data.fumehood.main

_document(tool) := {
	"action": {"name": "execute_tool", "properties": {"args": {"source": "print(1 + 1)"}}},
	"resource": {"type": "tool", "id": tool},
}

_of(decision, type) := {obligation.item | some obligation in decision.obligations; obligation.type == type}

test_python_is_confined_and_runs_at_once if {
	decision := main.decision with input as _document("python")
	decision.effect == "permit"
	_of(decision, "confine") == {"python-offline"}
	_of(decision, "approve") == set()
}

test_shell_is_confined_and_waits if {
	decision := main.decision with input as _document("shell")
	decision.effect == "permit"
	_of(decision, "confine") == {"shell"}
	some ask in _of(decision, "approve")
	ask.risk == "medium"
}

test_other_tools_are_not_permitted if {
	decision := main.decision with input as _document("ruby")
	decision.effect == "deny"
}
