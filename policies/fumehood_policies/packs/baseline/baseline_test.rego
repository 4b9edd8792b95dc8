package policies.baseline_test

import data.fumehood.main

_document(tool, kind, args, forms) := {
	"action": {"name": "execute_tool", "properties": {"args": args}},
	"resource": {"type": "tool", "id": tool, "properties": {"runs": "confined", "annotations": kind}},
	"context": {"normalised": forms},
}

_reasons(decision) := {obligation.item.reason | some obligation in decision.obligations; obligation.type == "approve"}

_profiles(decision) := {obligation.item | some obligation in decision.obligations; obligation.type == "confine"}

test_tool_that_reads_is_permitted if {
	decision := main.decision with input as _document("list_files", {"kind": "read"}, {}, {})
	decision.effect == "permit"
	decision.obligations == set()
}

test_tool_of_another_kind_or_of_none_is_denied if {
	every kind in [{}, {"kind": "write"}, {"kind": "egress"}, {"kind": "destroy"}] {
		decision := main.decision with input as _document("list_files", kind, {}, {})
		decision.effect == "deny"
		some reason in decision.reasons
		reason.code == "no_permit"
	}
}

test_listed_tool_is_permitted if {
	decision := main.decision with input as _document("look", {}, {}, {})
		with data.baseline.read_tools as ["look"]
	decision.effect == "permit"
}

test_shell_is_not_permitted_for_being_called_a_reader if {
	decision := main.decision with input as _document("shell", {"kind": "read"}, {}, {})
		with data.baseline.read_tools as ["shell"]
	decision.effect == "deny"
}

_fetch(url) := _document("fetch", {"kind": "fetch"}, {"url": "…"}, {"urls": {"/url": url}})

_hosts := ["api.example.com", "*.docs.example"]

test_host_on_the_list_is_reached if {
	every host in ["api.example.com", "a.docs.example", "a.b.docs.example"] {
		url := {"scheme": "https", "host": host, "port": 443, "path": "/"}
		decision := main.decision with input as _fetch(url) with data.baseline.egress_hosts as _hosts
		decision.effect == "permit"
		decision.obligations == set()
	}
}

test_other_host_port_or_scheme_is_denied if {
	every url in [
		{"scheme": "https", "host": "evil.example", "port": 443, "path": "/"},
		{"scheme": "https", "host": "docs.example", "port": 443, "path": "/"},
		{"scheme": "https", "host": "xdocs.example", "port": 443, "path": "/"},
		{"scheme": "https", "host": "api.example.com.evil.example", "port": 443, "path": "/"},
		{"scheme": "http", "host": "api.example.com", "port": 443, "path": "/"},
		{"scheme": "https", "host": "api.example.com", "port": 8443, "path": "/"},
		{"scheme": "https", "host": "169.254.169.254", "port": 443, "path": "/", "reach": "link_local"},
	] {
		decision := main.decision with input as _fetch(url) with data.baseline.egress_hosts as _hosts
		decision.effect == "deny"
		decision.policy.rules == {"policies.baseline.deny"}
	}
}

test_address_that_cannot_be_read_is_asked_about if {
	decision := main.decision with input as _document("fetch", {}, {"url": "http://a@b/"}, {"urls": {}})
	decision.effect == "permit"
	_reasons(decision) == {"the address can be understood in more than one way"}
}

test_address_that_is_no_text_is_denied if {
	decision := main.decision with input as _document("fetch", {}, {"url": 3}, {"urls": {}})
	decision.effect == "deny"
}

test_other_arguments_are_asked_about if {
	url := {"scheme": "https", "host": "api.example.com", "port": 443, "path": "/"}
	args := {"url": "…", "body": "secret", "timeout_s": 3}
	decision := main.decision with input as _document("fetch", {}, args, {"urls": {"/url": url}})
		with data.baseline.egress_hosts as _hosts
	_reasons(decision) == {"the call has arguments that this policy does not look at"}
}

_shell(commands, more) := _document(
	"shell", {"kind": "execute"}, {"command": "…"},
	{"shell": {"/command": object.union({"commands": commands}, more)}},
)

_ls := {"program": "ls", "words": ["ls", "-l"]}

test_plain_command_runs_confined_at_once if {
	every more in [
		{},
		{"uses": ["and", "list", "or", "pipe"]},
		{"uses": ["redirect"], "redirects": [{"operator": ">&", "target": "1"}, {"operator": ">", "target": "/dev/null"}]},
	] {
		decision := main.decision with input as _shell([_ls], more)
		decision.effect == "permit"
		_reasons(decision) == set()
		_profiles(decision) == {"shell"}
	}
}

test_command_that_does_more_is_asked_about if {
	every case in [
		[[_ls, {"program": "python3", "words": ["python3"]}], {}],
		[[_ls], {"uses": ["background"]}],
		[[_ls], {"uses": ["variable"], "is_static": false}],
		[[_ls], {"uses": ["redirect"], "redirects": [{"operator": ">", "target": "x"}]}],
		[[_ls], {"uses": ["redirect"], "redirects": [{"operator": ">&", "target": "x"}]}],
	] {
		decision := main.decision with input as _shell(case[0], case[1])
		decision.effect == "permit"
		_reasons(decision) == {"the command does more than run programs that are known to be harmless"}
	}
}

test_command_that_cannot_be_read_is_asked_about if {
	decision := main.decision with input as _document("shell", {}, {"command": "ls '"}, {"shell": {}})
	decision.effect == "permit"
	_reasons(decision) == {"the command cannot be read"}
}

test_denied_program_never_runs_wherever_its_name_stands if {
	every words in [["sudo", "ls"], ["env", "sudo", "ls"]] {
		decision := main.decision with input as _shell([{"program": words[0], "words": words}], {})
		decision.effect == "deny"
	}
}

test_unconfined_command_is_asked_about if {
	document := object.union(_shell([_ls], {}), {"resource": {"properties": {"runs": "in_process"}}})
	decision := main.decision with input as document
	_reasons(decision) == {"the command would run unconfined"}
	_profiles(decision) == set()
}

_sql(kinds, more) := _document(
	"query", {"kind": "read"}, {"query": "…"},
	{"sql": {"/query": object.union({"statements": [], "kinds": kinds}, more)}},
)

test_select_runs_at_once if {
	decision := main.decision with input as _sql(["select"], {"reads": ["users"]})
	decision.effect == "permit"
	decision.obligations == set()
}

test_listed_table_is_written_where_its_kind_is_listed if {
	decision := main.decision with input as _sql(["insert"], {"writes": ["log"]})
		with data.baseline.sql_kinds as ["insert"]
		with data.baseline.sql_tables as ["log"]
	_reasons(decision) == set()
}

test_statement_that_does_more_is_asked_about if {
	every case in [
		[["select", "update"], {"reads": ["users"], "writes": ["users"]}],
		[["select"], {"reads": ["unparseable"]}],
		[["select"], {"other_functions": ["pg_read_file"]}],
	] {
		decision := main.decision with input as _sql(case[0], case[1])
		decision.effect == "permit"
		_reasons(decision) == {"the statement does more than read tables that may be read"}
	}
}

test_table_that_is_not_listed_is_asked_about if {
	decision := main.decision with input as _sql(["select"], {"reads": ["salaries"]})
		with data.baseline.sql_tables as ["users"]
	count(_reasons(decision)) == 1
}

test_drop_is_denied if {
	decision := main.decision with input as _sql(["drop"], {"writes": ["users"]})
	decision.effect == "deny"
}

test_statement_that_cannot_be_read_is_asked_about if {
	decision := main.decision with input as _document("sql", {}, {"query": "hello"}, {"sql": {}})
	_reasons(decision) == {"the statement cannot be read"}
}

_connection(host, port) := {
	"action": {"name": "connect", "properties": {"args": {}, "connect": {"host": host, "port": port}}},
	"resource": {"type": "tool", "id": "shell"},
}

test_connection_from_inside_goes_to_listed_hosts_only if {
	here := main.decision with input as _connection("API.example.com", 443) with data.baseline.egress_hosts as _hosts
	here.effect == "permit"
	there := main.decision with input as _connection("evil.example", 443) with data.baseline.egress_hosts as _hosts
	there.effect == "deny"
	other := main.decision with input as _connection("api.example.com", 22) with data.baseline.egress_hosts as _hosts
	other.effect == "deny"
}
