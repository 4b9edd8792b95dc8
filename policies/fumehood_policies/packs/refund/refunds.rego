# METADATA
# title: Refunds
# description: |
#   Small refunds that the user asked for run at once; a refund whose amount or order the user did not
#   name waits for a person; a large one never runs.
# custom:
#   controls: [ASI01, ASI02, LLM01:2025, LLM06:2025, AML.T0051.001, AML.T0053]
package policies.refunds

import data.fumehood.call

# METADATA
# title: Reading a ticket is harmless
# description: What the ticket says is untrusted text; reading it does nothing.
permit if call.tool == "read_ticket"

# METADATA
# title: Refunds within the bound
# description: The bound stands where silence means no; an absent, null or odd amount permits nothing.
permit if {
	call.tool == "issue_refund"
	is_number(call.args.amount_usd)
	call.args.amount_usd > 0
	call.args.amount_usd <= 1000
}

# METADATA
# title: Large refunds are never automatic
# custom:
#   controls: [ASI02, LLM06:2025, AML.T0053]
deny contains {
	"reason": "refunds above $1,000 are never automatic",
	"remedy": "Ask a colleague to issue it by hand.",
	"controls": ["ASI02"],
} if {
	call.tool == "issue_refund"
	call.args.amount_usd > 1000
}

# METADATA
# title: The amount must come from the user
# description: An amount found only in a ticket, or nowhere, may be an instruction hidden in the ticket.
# custom:
#   controls: [ASI01, LLM01:2025, AML.T0051.001]
approve contains {
	"reason": "the amount is not known to come from the user",
	"risk": "high",
	"timeout_s": 300,
	"controls": ["ASI01", "LLM01:2025"],
} if {
	call.tool == "issue_refund"
	not _is_amount_trusted
}

# METADATA
# title: The order must come from the user
# custom:
#   controls: [ASI01, LLM01:2025, AML.T0051.001]
approve contains {
	"reason": "the order is not known to come from the user",
	"risk": "high",
	"timeout_s": 300,
	"controls": ["ASI01", "LLM01:2025"],
} if {
	call.tool == "issue_refund"
	not _is_order_trusted
}

_is_amount_trusted if call.trusted("/amount_usd")

_is_order_trusted if call.trusted("/order_id")
