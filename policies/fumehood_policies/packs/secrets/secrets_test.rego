package policies.secrets_test

import data.policies.secrets

_document(tool, kind, args) := {
	"action": {"name": "execute_tool", "properties": {"args": args}},
	"resource": {"type": "tool", "id": tool, "properties": {"annotations": kind}},
}

_credentials := [
	concat("", ["AKIA", "IOSFODNN7EXAMPLE"]),
	concat("", ["ghp_", "abcdefghijklmnopqrstuvwxyz0123456789"]),
	concat("", ["github_pat_", "11ABCDEFG0abcdefghijkl"]),
	concat("", ["glpat-", "abcdefghijklmnopqrst"]),
	concat("", ["xoxb-", "1234567890-abc"]),
	concat("", ["sk-", "abcdefghijklmnopqrstuv"]),
	concat("", ["sk_live_", "abcdefghijklmnop"]),
	concat("", ["AIza", "abcdefghijklmnopqrstuvwxyz012345678"]),
	concat("", ["eyJhbGciOiJI", ".", "eyJzdWIiOiIx"]),
	concat("", ["-----BEGIN RSA ", "PRIVATE KEY-----"]),
]

test_credential_leaves_by_no_tool_that_reaches_out if {
	every credential in _credentials {
		every args in [{"body": credential}, {"a": [{"b": concat("", ["x ", credential])}]}, {"a": {credential: 1}}] {
			denied := secrets.deny with input as _document("send_mail", {"kind": "egress"}, args)
			count(denied) == 1
		}
	}
}

test_tool_whose_kind_nobody_said_counts_as_reaching_out if {
	denied := secrets.deny with input as _document("send_mail", {}, {"body": _credentials[0]})
	count(denied) == 1
}

test_plain_text_and_tools_that_read_are_not_denied if {
	plain := secrets.deny with input as _document("send_mail", {"kind": "egress"}, {"body": "sk-short, disk-encryption-settings-of-hosts", "n": 3})
	plain == set()
	reading := secrets.deny with input as _document("look", {"kind": "read"}, {"body": _credentials[0]})
	reading == set()
}

test_tool_that_may_send_credentials_does if {
	denied := secrets.deny with input as _document("vault", {"kind": "write"}, {"value": _credentials[0]})
		with data.secrets.may_send as ["vault"]
	denied == set()
}

_after(context) := object.union(_document("send_mail", {"kind": "egress"}, {}), {"context": context})

test_reaching_out_after_a_secret_is_asked_about if {
	every context in [
		{"provenance": {"session_labels": ["secret", "untrusted"]}},
		{"history": [{"tool": "read_vault", "effect": "permit", "labels": [], "seq": 1}]},
	] {
		asked := secrets.approve with input as _after(context) with data.secrets.sources as ["read_vault"]
		count(asked) == 1
	}
}

test_nothing_is_asked_before_or_after_a_refused_read if {
	every context in [
		{},
		{"provenance": {"session_labels": ["untrusted"]}},
		{"history": [{"tool": "read_vault", "effect": "deny", "labels": [], "seq": 1}]},
		{"history": [{"tool": "other", "effect": "permit", "labels": [], "seq": 1}]},
	] {
		asked := secrets.approve with input as _after(context) with data.secrets.sources as ["read_vault"]
		asked == set()
	}
}

_result(tool) := {
	"action": {"name": "return_result", "properties": {"args": {}, "result": "x"}},
	"resource": {"type": "tool", "id": tool},
}

test_source_is_labelled if {
	labels := secrets.label with input as _result("read_vault") with data.secrets.sources as ["read_vault"]
	labels == {"secret"}
	none := secrets.label with input as _result("other") with data.secrets.sources as ["read_vault"]
	none == set()
}

test_credentials_are_taken_out_of_results if {
	patterns := {item.pattern | some item in secrets.redact with input as _result("read_page")}
	every credential in array.slice(_credentials, 0, 9) {
		some pattern in patterns
		regex.match(pattern, credential)
	}
}

test_tool_whose_results_may_hold_credentials_keeps_them if {
	found := secrets.redact with input as _result("vault") with data.secrets.may_return as ["vault"]
	found == set()
}
