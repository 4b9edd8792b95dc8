# METADATA
# title: Secrets
# description: |
#   Credentials do not leave by a tool that reaches out, do not come back from a tool, and after a tool whose
#   results hold secrets whatever reaches out is asked about. This pack permits nothing by itself. Shapes of
#   credentials are a net with holes; what a source is, is certain.
# custom:
#   controls: [ASI02, ASI03, LLM02:2025, LLM07:2025, AML.T0055, AML.T0057, AML.T0086]
package policies.secrets

import data.fumehood.call

_reaching_out := {"egress", "fetch", "write", "money", "access", "execute", ""}

# METADATA
# title: No credential leaves
# custom:
#   controls: [ASI02, LLM02:2025, AML.T0057, AML.T0086]
deny contains {
	"reason": "an argument holds a credential, and this tool may not be given one",
	"remedy": "Leave it out; tools that need a credential have their own.",
	"controls": ["ASI02", "LLM02:2025", "AML.T0086"],
} if {
	call.kind in _reaching_out
	not _may_send
	_holds_credential
}

# METADATA
# title: Nothing leaves unseen after a secret was read
# description: The agent has seen what must not leave, and can write it in any form.
# custom:
#   controls: [ASI01, ASI02, LLM02:2025, AML.T0086]
approve contains {
	"reason": "the agent has read secrets in this session, and this tool reaches out",
	"risk": "high",
	"timeout_s": 300,
	"controls": ["ASI01", "ASI02", "LLM02:2025"],
} if {
	call.kind in _reaching_out
	not _may_send
	_has_read_secrets
}

# METADATA
# title: What a source answers is secret
# custom:
#   controls: [LLM02:2025]
label contains "secret" if call.tool in data.secrets.sources

# METADATA
# title: No credential comes back
# description: The agent does not see it, so it cannot repeat it.
# custom:
#   controls: [LLM02:2025, AML.T0055]
redact contains {"pattern": pattern} if {
	some pattern in _redacted
	not _may_return
}

# A key is taken out whole, a shape with what follows it.
_redacted := {
	`(AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}`,
	`gh[pousr]_[A-Za-z0-9]{36,}`,
	`github_pat_[A-Za-z0-9_]{22,}`,
	`glpat-[A-Za-z0-9_-]{20,}`,
	`xox[abeoprs]-[A-Za-z0-9-]{10,}`,
	`\bsk-[A-Za-z0-9_-]{20,}`,
	`[sr]k_(live|test)_[A-Za-z0-9]{16,}`,
	`AIza[A-Za-z0-9_-]{35}`,
	`eyJ[A-Za-z0-9_-]{8,}[.]eyJ[A-Za-z0-9_-]{8,}([.][A-Za-z0-9_-]*)?`,
	`-{5}BEGIN [A-Z ]*PRIVATE KEY-{5}[A-Za-z0-9+/=\n\r -]*-{5}END [A-Z ]*PRIVATE KEY-{5}`,
}

_may_send if call.tool in data.secrets.may_send

_may_return if call.tool in data.secrets.may_return

_holds_credential if {
	walk(call.args, [_, value])
	is_string(value)
	_is_credential(value)
}

_holds_credential if {
	walk(call.args, [_, value])
	is_object(value)
	some name, _ in value
	_is_credential(name)
}

_is_credential(text) if regex.match(`(AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}`, text)

_is_credential(text) if regex.match(`gh[pousr]_[A-Za-z0-9]{36}`, text)

_is_credential(text) if regex.match(`github_pat_[A-Za-z0-9_]{22}`, text)

_is_credential(text) if regex.match(`glpat-[A-Za-z0-9_-]{20}`, text)

_is_credential(text) if regex.match(`xox[abeoprs]-[A-Za-z0-9-]{10}`, text)

_is_credential(text) if regex.match(`(^|[^A-Za-z0-9])sk-[A-Za-z0-9_-]{20}`, text)

_is_credential(text) if regex.match(`[sr]k_(live|test)_[A-Za-z0-9]{16}`, text)

_is_credential(text) if regex.match(`AIza[A-Za-z0-9_-]{35}`, text)

_is_credential(text) if regex.match(`eyJ[A-Za-z0-9_-]{8,}[.]eyJ[A-Za-z0-9_-]{8,}`, text)

_is_credential(text) if regex.match(`-{5}BEGIN [A-Z ]*PRIVATE KEY-{5}`, text)

_has_read_secrets if "secret" in input.context.provenance.session_labels

_has_read_secrets if {
	some past in input.context.history
	past.effect == "permit"
	past.tool in data.secrets.sources
}
