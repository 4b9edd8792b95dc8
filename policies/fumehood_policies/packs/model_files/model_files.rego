# METADATA
# title: Model files
# description: |
#   A model file may run code when it is loaded. Loading is confined, and only files that lie in a folder
#   called `models` are loaded at all.
# custom:
#   controls: [ASI04, ASI05, LLM03:2025, AML.T0010.003, AML.T0011.000]
package policies.model_files

import data.fumehood.call

_reading := {"inspect_model", "list_models"}

_loading := {"load_model"}

# METADATA
# title: Looking at a model file
# description: Reads bytes, loads nothing.
permit if {
	call.tool in _reading
	_is_in_models
}

# METADATA
# title: Downloading a model file
# description: A file on disk does nothing by itself; what matters is how it is loaded.
permit if {
	call.tool == "download_model"
	call.url("/url").scheme == "https"
}

# METADATA
# title: Loading a model file
permit if {
	call.tool in _loading
	_is_in_models
}

# METADATA
# title: Loading is confined
# description: Unpickling runs what the file says. It gets no file, no network and no process.
# custom:
#   controls: [ASI05, AML.T0011.000]
confine contains "model-loader" if call.tool in _loading

# METADATA
# title: Only from a models folder
# description: The path is compared after `..` is resolved; one that cannot be resolved is outside.
# custom:
#   controls: [ASI02, LLM06:2025]
deny contains {
	"reason": "model files are only read from a folder called models",
	"remedy": "Download the model into the models folder first.",
	"controls": ["ASI02", "LLM06:2025"],
} if {
	call.tool in (_reading | _loading)
	not _is_in_models
}

_is_in_models if {
	folders := array.slice(_steps, 0, count(_steps) - 1)
	some folder in folders
	folder == "models"
}

_steps := split(call.path("/path"), "/")
