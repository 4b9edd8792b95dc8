package policies.model_files_test

import data.fumehood.main

_document(tool, path, normal) := {
	"action": {"name": "execute_tool", "properties": {"args": {"path": path}}},
	"resource": {"type": "tool", "id": tool},
	"context": {"normalised": {"paths": {"/path": normal}}},
}

_profiles(decision) := {obligation.item | some obligation in decision.obligations; obligation.type == "confine"}

test_loading_from_the_models_folder_is_confined if {
	decision := main.decision with input as _document("load_model", "/srv/models/a.pkl", "/srv/models/a.pkl")
	decision.effect == "permit"
	_profiles(decision) == {"model-loader"}
}

test_loading_is_never_permitted_without_its_profile if {
	decision := main.decision with input as _document("load_model", "models/x/a.pkl", "/srv/models/x/a.pkl")
	count(_profiles(decision)) == 1
}

test_path_that_climbs_out_is_denied if {
	decision := main.decision with input as _document("load_model", "/srv/models/../a.pkl", "/srv/a.pkl")
	decision.effect == "deny"
	decision.policy.rules == {"policies.model_files.deny"}
}

test_file_called_models_is_not_a_folder if {
	decision := main.decision with input as _document("load_model", "/srv/models", "/srv/models")
	decision.effect == "deny"
}

test_path_that_cannot_be_resolved_is_denied if {
	document := {
		"action": {"name": "execute_tool", "properties": {"args": {"path": "~/models/a.pkl"}}},
		"resource": {"type": "tool", "id": "load_model"},
	}
	decision := main.decision with input as document
	decision.effect == "deny"
}

test_inspecting_is_not_confined if {
	decision := main.decision with input as _document("inspect_model", "/srv/models/a.pkl", "/srv/models/a.pkl")
	decision.effect == "permit"
	count(decision.obligations) == 0
}

test_inspecting_elsewhere_is_denied if {
	decision := main.decision with input as _document("inspect_model", "/etc/shadow", "/etc/shadow")
	decision.effect == "deny"
}

_download(url, normal) := {
	"action": {"name": "execute_tool", "properties": {"args": {"url": url}}},
	"resource": {"type": "tool", "id": "download_model"},
	"context": {"normalised": {"urls": normal}},
}

test_download_over_https_is_permitted if {
	normal := {"/url": {"scheme": "https", "host": "models.example", "port": 443, "path": "/a.pkl"}}
	decision := main.decision with input as _download("https://models.example/a.pkl", normal)
	decision.effect == "permit"
}

test_download_of_an_ambiguous_url_is_not_permitted if {
	decision := main.decision with input as _download("https://models.example@evil.example/a", {})
	decision.effect == "deny"
}
