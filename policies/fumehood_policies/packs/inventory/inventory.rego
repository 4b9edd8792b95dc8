# METADATA
# title: Inventory
# description: |
#   An agent or a tool that nobody registered does nothing, and a tool whose definition was changed after it
#   was reviewed does nothing either. Nothing is registered until you do it. This pack permits nothing by itself.
# custom:
#   controls: [ASI03, ASI04, ASI10, LLM03:2025, AML.T0053, AML.T0010.001]
package policies.inventory

import data.fumehood.call

# METADATA
# title: An agent that nobody registered
# custom:
#   controls: [ASI03, ASI10]
deny contains {
	"reason": "this agent is not registered",
	"remedy": "Ask for it to be added to inventory.agents.",
	"detail": _agent,
	"controls": ["ASI03", "ASI10"],
} if {
	not _is_agent_known
}

# METADATA
# title: A tool that nobody registered
# custom:
#   controls: [ASI04, AML.T0053]
deny contains {
	"reason": "this tool is not registered",
	"remedy": "Ask for it to be added to inventory.tools.",
	"detail": call.tool,
	"controls": ["ASI04", "AML.T0053"],
} if {
	not _is_tool_known
}

# METADATA
# title: A tool that was changed after its review
# description: A server can describe its tool in other words tomorrow than those that were agreed to.
# custom:
#   controls: [ASI04, LLM03:2025, AML.T0010.001]
deny contains {
	"reason": "the definition of this tool is not the one that was reviewed",
	"remedy": "Ask for it to be reviewed again.",
	"detail": _definition,
	"controls": ["ASI04", "LLM03:2025"],
} if {
	some tool, _ in data.inventory.definitions
	tool == call.tool
	not _is_definition_known
}

default _agent := ""

_agent := input.subject.id if is_string(input.subject.id)

default _definition := ""

_definition := input.resource.properties.definition_digest

_is_agent_known if _agent in data.inventory.agents

_is_tool_known if call.tool in data.inventory.tools

_is_definition_known if data.inventory.definitions[call.tool] == _definition
