# METADATA
# title: Baseline
# description: |
#   Nothing is allowed but what is said here: tools that only read, addresses on a list, and commands and
#   statements whose parsed shape is harmless. What cannot be parsed is asked about, never guessed at.
# custom:
#   controls: [ASI02, ASI03, ASI05, LLM05:2025, LLM06:2025, AML.T0050, AML.T0053, AML.T0086]
package policies.baseline

import data.fumehood.call

# METADATA
# title: Tools that only read
# description: What a tool does is said by whoever integrates it, never by the agent.
permit if {
	call.kind == "read"
	not call.tool in _looked_at
}

# METADATA
# title: Tools that are listed as reading
permit if {
	call.tool in data.baseline.read_tools
	not call.tool in _looked_at
}

# METADATA
# title: Addresses on the list
permit if {
	call.tool in data.baseline.url_tools
	_is_allowed_url
}

# METADATA
# title: Addresses that cannot be read
# description: Somebody is asked, below.
permit if {
	call.tool in data.baseline.url_tools
	is_string(call.args.url)
	call.url("/url").parsed == false
}

# METADATA
# title: Commands
# description: Somebody is asked about those that are not plain, below.
permit if {
	call.tool in data.baseline.shell_tools
	is_string(call.args.command)
}

# METADATA
# title: Statements
# description: Somebody is asked about those that are not plain, below.
permit if {
	call.tool in data.baseline.sql_tools
	is_string(call.args.query)
}

# METADATA
# title: Connections from inside go to the same hosts
permit_connect if {
	call.connect_to.port in data.baseline.egress_ports
	_is_allowed_host(lower(call.connect_to.host))
}

# METADATA
# title: No address that is not on the list
# custom:
#   controls: [ASI02, AML.T0086]
deny contains {
	"reason": "this address is not on the list of those that may be reached",
	"remedy": "Use another source, or ask for the host to be added to baseline.egress_hosts.",
	"controls": ["ASI02", "AML.T0086"],
} if {
	call.tool in data.baseline.url_tools
	call.url("/url").parsed
	not _is_allowed_url
}

# METADATA
# title: Programs that are never run
# custom:
#   controls: [ASI05, AML.T0050]
deny contains {
	"reason": "a program of this command is never run here",
	"remedy": "Do without it, or ask a person to run it.",
	"controls": ["ASI05", "AML.T0050"],
} if {
	call.tool in data.baseline.shell_tools
	some command in call.shell("/command").commands
	some word in command.words
	word in data.baseline.denied_programs
}

# METADATA
# title: Statements that are never run
# custom:
#   controls: [ASI02, LLM06:2025]
deny contains {
	"reason": "statements of this kind are never run here",
	"remedy": "Ask a person to run it.",
	"controls": ["ASI02", "LLM06:2025"],
} if {
	call.tool in data.baseline.sql_tools
	some kind in call.sql("/query").kinds
	kind in data.baseline.denied_sql_kinds
}

# METADATA
# title: An address that cannot be read
# custom:
#   controls: [ASI02, AML.T0086]
approve contains {
	"reason": "the address can be understood in more than one way",
	"risk": "high",
	"timeout_s": 300,
	"controls": ["ASI02", "AML.T0086"],
} if {
	call.tool in data.baseline.url_tools
	call.url("/url").parsed == false
}

# METADATA
# title: A command that cannot be read
# custom:
#   controls: [ASI05, LLM05:2025, AML.T0050]
approve contains {
	"reason": "the command cannot be read",
	"risk": "high",
	"timeout_s": 300,
	"controls": ["ASI05", "LLM05:2025"],
} if {
	call.tool in data.baseline.shell_tools
	call.shell("/command").parsed == false
}

# METADATA
# title: A command that does more than run listed programs
# custom:
#   controls: [ASI05, LLM05:2025, AML.T0050]
approve contains {
	"reason": "the command does more than run programs that are known to be harmless",
	"risk": "medium",
	"timeout_s": 300,
	"controls": ["ASI05", "LLM05:2025"],
} if {
	call.tool in data.baseline.shell_tools
	call.shell("/command").parsed
	not _is_plain_command
}

# METADATA
# title: Commands outside of confinement
# custom:
#   controls: [ASI05]
approve contains {
	"reason": "the command would run unconfined",
	"risk": "high",
	"timeout_s": 300,
	"controls": ["ASI05"],
} if {
	call.tool in data.baseline.shell_tools
	call.runs != "confined"
}

# METADATA
# title: A statement that cannot be read
# custom:
#   controls: [ASI02, LLM05:2025]
approve contains {
	"reason": "the statement cannot be read",
	"risk": "high",
	"timeout_s": 300,
	"controls": ["ASI02", "LLM05:2025"],
} if {
	call.tool in data.baseline.sql_tools
	call.sql("/query").parsed == false
}

# METADATA
# title: A statement that does more than read known tables
# custom:
#   controls: [ASI02, LLM05:2025]
approve contains {
	"reason": "the statement does more than read tables that may be read",
	"risk": "medium",
	"timeout_s": 300,
	"controls": ["ASI02", "LLM05:2025"],
} if {
	call.tool in data.baseline.sql_tools
	call.sql("/query").parsed
	not _is_plain_query
}

# METADATA
# title: Arguments that nobody looks at
# description: What the rules above do not read (a method, a body, an environment) could do anything.
# custom:
#   controls: [ASI02]
approve contains {
	"reason": "the call has arguments that this policy does not look at",
	"risk": "medium",
	"timeout_s": 300,
	"controls": ["ASI02"],
} if {
	call.tool in _looked_at
	count(_other_arguments) > 0
}

# METADATA
# title: Commands run confined
confine contains "shell" if {
	call.tool in data.baseline.shell_tools
	call.runs == "confined"
}

_looked_at contains tool if some tool in data.baseline.url_tools

_looked_at contains tool if some tool in data.baseline.shell_tools

_looked_at contains tool if some tool in data.baseline.sql_tools

_read_arguments contains name if some name in data.baseline.other_arguments

_read_arguments contains "url" if call.tool in data.baseline.url_tools

_read_arguments contains "command" if call.tool in data.baseline.shell_tools

_read_arguments contains "query" if call.tool in data.baseline.sql_tools

_other_arguments contains name if {
	some name, _ in call.args
	not name in _read_arguments
}

_is_allowed_url if {
	url := call.url("/url")
	url.parsed
	url.scheme in data.baseline.egress_schemes
	url.port in data.baseline.egress_ports
	_is_allowed_host(url.host)
}

_is_allowed_host(host) if host in data.baseline.egress_hosts

_is_allowed_host(host) if {
	some entry in data.baseline.egress_hosts
	startswith(entry, "*.")
	endswith(host, trim_prefix(entry, "*"))
}

_is_plain_command if {
	text := call.shell("/command")
	text.parsed
	text.is_static
	every command in text.commands {
		command.program in data.baseline.programs
	}
	every use in text.uses {
		use in {"pipe", "and", "or", "not", "list", "redirect"}
	}
	every redirect in text.redirects {
		_is_harmless(redirect)
	}
}

_is_harmless(redirect) if redirect.target == "/dev/null"

_is_harmless(redirect) if {
	redirect.operator == ">&"
	redirect.target in {"1", "2"}
}

_is_plain_query if {
	query := call.sql("/query")
	query.parsed
	every kind in query.kinds {
		kind in data.baseline.sql_kinds
	}
	every table in query.reads {
		_is_allowed_table(table)
	}
	every table in query.writes {
		_is_allowed_table(table)
	}
	every name in query.other_functions {
		name in data.baseline.sql_functions
	}
}

_is_allowed_table(table) if table in data.baseline.sql_tables

_is_allowed_table(table) if {
	table != "unparseable"
	"*" in data.baseline.sql_tables
}
