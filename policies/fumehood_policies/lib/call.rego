# METADATA
# title: The call being decided
# description: |
#   Total: each name has a value, whatever the input lacks. Only `args` may lack things, so that a
#   bound on an argument that is absent permits nothing.
package fumehood.call

# METADATA
# description: The tool's name, "" if there is none.
default tool := ""

tool := input.resource.id if is_string(input.resource.id)

# METADATA
# description: What the tool does to the world (read, fetch, write, egress, money, …), "" if nobody said.
default kind := ""

kind := input.resource.properties.annotations.kind

# METADATA
# description: How the tool runs, "in_process" or "confined"; "" if unknown.
default runs := ""

runs := input.resource.properties.runs

# METADATA
# description: The arguments, an object.
default args := {}

args := input.action.properties.args if is_object(input.action.properties.args)

# METADATA
# description: The argument with this name, or else `otherwise`.
arg(name, otherwise) := object.get(args, [name], otherwise)

# METADATA
# description: Where a connection from inside confinement wants to go (phase connect).
default connect_to := {"host": "", "port": 0}

connect_to := {
	"host": input.action.properties.connect.host,
	"port": input.action.properties.connect.port,
}

# METADATA
# description: What the tool answered (phase return_result), null if it answered nothing.
default result := null

result := input.action.properties.result

# METADATA
# description: Whether the tool failed (phase return_result).
default is_error := false

is_error := input.action.properties.is_error

# METADATA
# description: The arguments that a side effect is aimed at, a set of {pointer, value}.
targets contains {"pointer": pointer, "value": value} if {
	some name in _annotated_targets
	not startswith(name, "/")
	pointer := concat("", ["/", _escaped(name)])
	value := args[name]
}

targets contains {"pointer": pointer, "value": value} if {
	some pointer in _annotated_targets
	startswith(pointer, "/")
	walk(args, [steps, value])
	pointer == _pointer(steps)
}

default _annotated_targets := []

_annotated_targets := input.resource.properties.annotations.target

# METADATA
# description: |
#   Where the argument at this JSON Pointer comes from: the most suspicious of its sources, for an
#   object or list the most suspicious of anything in it; "unknown" if nothing is known.
default origin(_) := "unknown"

origin(pointer) := _order[max(ranks)] if {
	leaves := _leaves(pointer)
	every leaf in leaves {
		count(_sources(leaf)) > 0
	}
	ranks := {object.get(_rank, source.origin, 5) | some leaf in leaves; some source in _sources(leaf)}
	count(ranks) > 0
}

# METADATA
# description: |
#   Whether the argument at this JSON Pointer was found in a trusted place: the user's words or the
#   operator's configuration. An object or list is trusted if everything in it is, and it is not empty.
default trusted(_) := false

trusted(pointer) if {
	leaves := _leaves(pointer)
	count(leaves) > 0
	every leaf in leaves {
		some source in _sources(leaf)
		source.origin in {"user", "system"}
	}
}

# METADATA
# description: |
#   The argument at this JSON Pointer as an absolute path without `.`, `..` and repeated slashes;
#   "unparseable" if it is not one. Symbolic links are not followed.
path(pointer) := object.get(_normalised, ["paths", pointer], "unparseable")

# METADATA
# description: |
#   The argument at this JSON Pointer as a URL, {parsed, why, scheme, host, port, path, query, reach}, in
#   lower case and punycode where that has no meaning; all "unparseable" if two readers could disagree.
url(pointer) := object.union(_a_url, found) if {
	found := _normalised.urls[pointer]
	is_object(found)
} else := object.union(_no_url, {"why": _why("url", pointer)})

_a_url := {"parsed": true, "why": "", "query": "", "reach": "name"}

_no_url := {
	"parsed": false,
	"scheme": "unparseable",
	"host": "unparseable",
	"port": 0,
	"path": "unparseable",
	"query": "unparseable",
	"reach": "unparseable",
}

# METADATA
# description: |
#   The words of the one simple command at this JSON Pointer; ["unparseable"] if it is anything else (an
#   operator, an expansion, a redirection, a quote left open), so that no first word matches.
argv(pointer) := object.get(_normalised, ["argv", pointer], ["unparseable"])

# METADATA
# description: |
#   What the path at this JSON Pointer leads to on this host when the call is decided, symbolic links
#   followed and named: {parsed, why, leads_to, links, is_link, exists, type, in_home, in_workdir}.
file(pointer) := object.union(_a_file, found) if {
	found := _normalised.files[pointer]
	is_object(found)
} else := object.union(_no_file, {"why": _why("file", pointer)})

_a_file := {
	"parsed": true,
	"why": "",
	"links": [],
	"is_link": false,
	"exists": true,
	"type": "file",
	"in_home": false,
	"in_workdir": false,
}

_no_file := {
	"parsed": false,
	"leads_to": "unparseable",
	"links": ["unparseable"],
	"is_link": true,
	"exists": false,
	"type": "unparseable",
	"in_home": false,
	"in_workdir": false,
}

# METADATA
# description: |
#   Whether the path at this JSON Pointer is `folder` or lies in it, both as it is written (`..` resolved)
#   and where it leads to on this host. The folder is an absolute path without symbolic links.
default inside(_, _) := false

inside(pointer, folder) if {
	_is_below(path(pointer), folder)
	_is_below(file(pointer).leads_to, folder)
}

_is_below(path, folder) if {
	startswith(folder, "/")
	path == folder
}

_is_below(path, folder) if {
	startswith(folder, "/")
	startswith(path, concat("", [trim_suffix(folder, "/"), "/"]))
}

# METADATA
# description: |
#   The shell text at this JSON Pointer: {parsed, why, commands, redirects, uses, is_static}, each command
#   {program, words, is_static, sets}. What is only known when it runs is "unparseable" and not static.
shell(pointer) := object.union(_a_shell, found) if {
	found := _normalised.shell[pointer]
	is_object(found)
} else := object.union(_no_shell, {"why": _why("shell", pointer)})

_a_shell := {"parsed": true, "why": "", "redirects": [], "uses": [], "is_static": true}

_no_shell := {
	"parsed": false,
	"commands": [{"program": "unparseable", "words": ["unparseable"], "is_static": false, "sets": ["unparseable"]}],
	"redirects": [{"operator": "unparseable", "target": "unparseable"}],
	"uses": ["unparseable"],
	"is_static": false,
}

# METADATA
# description: |
#   The SQL at this JSON Pointer: {parsed, why, statements, kinds, reads, writes, functions,
#   other_functions}, each statement with the same lists and its own `kind`.
sql(pointer) := object.union(_a_sql, found) if {
	found := _normalised.sql[pointer]
	is_object(found)
} else := object.union(_no_sql, {"why": _why("sql", pointer)})

_a_sql := {"parsed": true, "why": "", "reads": [], "writes": [], "functions": [], "other_functions": []}

_no_sql := {
	"parsed": false,
	"statements": [{
		"kind": "unparseable",
		"kinds": ["unparseable"],
		"reads": ["unparseable"],
		"writes": ["unparseable"],
		"functions": ["unparseable"],
		"other_functions": ["unparseable"],
	}],
	"kinds": ["unparseable"],
	"reads": ["unparseable"],
	"writes": ["unparseable"],
	"functions": ["unparseable"],
	"other_functions": ["unparseable"],
}

_why(kind, pointer) := object.get(_normalised, ["unparseable", kind, pointer], "there is no text at this pointer")

default _normalised := {}

_normalised := input.context.normalised

default _provenance := {}

_provenance := input.context.provenance.args

_sources(pointer) := object.get(_provenance, [pointer], [])

_order := ["user", "system", "internal", "delegated", "untrusted", "unknown"]

_rank := {"user": 0, "system": 1, "internal": 2, "delegated": 3, "untrusted": 4, "unknown": 5}

# The guard sends one entry for each scalar; what it has no entry for is found by walking the arguments.
_leaves(pointer) := {pointer} if {
	_provenance[pointer]
} else := {leaf |
	walk(args, [steps, value])
	not _is_branch(value)
	leaf := _pointer(steps)
	startswith(leaf, concat("", [pointer, "/"]))
}

default _is_branch(_) := false

_is_branch(value) if {
	is_object(value)
	count(value) > 0
}

_is_branch(value) if {
	is_array(value)
	count(value) > 0
}

_pointer(steps) := concat("", [part | some token in steps; part := concat("", ["/", _escaped(sprintf("%v", [token]))])])

_escaped(token) := replace(replace(token, "~", "~0"), "/", "~1")
