# METADATA
# title: Code
# description: |
#   Python and shell commands run confined: Python without network at once, a shell command after a person
#   has seen it.
# custom:
#   controls: [ASI05, LLM05:2025, LLM06:2025, AML.T0050]
package policies.code

import data.fumehood.call

# METADATA
# title: Python and shell commands may run
permit if call.tool in {"python", "shell"}

# METADATA
# title: Python runs without network
confine contains "python-offline" if call.tool == "python"

# METADATA
# title: Commands run confined
confine contains "shell" if call.tool == "shell"

# METADATA
# title: A person sees each command first
# custom:
#   controls: [ASI05, AML.T0050]
approve contains {
	"reason": "a shell command",
	"risk": "medium",
	"timeout_s": 300,
	"controls": ["ASI05", "AML.T0050"],
} if {
	call.tool == "shell"
}
