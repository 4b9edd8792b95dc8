package policies.inventory_test

import data.policies.inventory

_digest := "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

_document(agent, tool, properties) := {
	"subject": {"type": "agent", "id": agent},
	"action": {"name": "execute_tool", "properties": {"args": {}}},
	"resource": {"type": "tool", "id": tool, "properties": properties},
}

_reasons(document, definitions) := reasons if {
	items := inventory.deny with input as document
		with data.inventory.agents as ["support-bot"]
		with data.inventory.tools as ["read_ticket"]
		with data.inventory.definitions as definitions
	reasons := {item.reason | some item in items}
}

test_registered_agent_and_tool_are_not_denied if {
	_reasons(_document("support-bot", "read_ticket", {}), {}) == set()
}

test_unknown_agent_is_denied if {
	_reasons(_document("shadow-bot", "read_ticket", {}), {}) == {"this agent is not registered"}
}

test_agent_without_a_name_is_denied if {
	document := object.remove(_document("support-bot", "read_ticket", {}), ["subject"])
	_reasons(document, {}) == {"this agent is not registered"}
}

test_unknown_tool_is_denied if {
	_reasons(_document("support-bot", "read_tickets", {}), {}) == {"this tool is not registered"}
}

test_nothing_is_registered_at_first if {
	items := inventory.deny with input as _document("support-bot", "read_ticket", {})
	count(items) == 2
}

test_definition_that_was_reviewed_is_not_denied if {
	document := _document("support-bot", "read_ticket", {"definition_digest": _digest})
	_reasons(document, {"read_ticket": _digest}) == set()
}

test_definition_that_was_changed_or_is_not_known_is_denied if {
	every properties in [{"definition_digest": "sha256:bbbb"}, {}] {
		found := _reasons(_document("support-bot", "read_ticket", properties), {"read_ticket": _digest})
		found == {"the definition of this tool is not the one that was reviewed"}
	}
}
