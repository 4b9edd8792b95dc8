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
#   The argument at this JSON Pointer as an absolute path without `.`, `..` and repeated slashes; "" if
#   it is not one. Symbolic links are not followed.
path(pointer) := object.get(_normalised, ["paths", pointer], "")

# METADATA
# description: |
#   The argument at this JSON Pointer as a URL, {scheme, host, port, path}, in lower case where case has
#   no meaning; {"scheme": "", "host": "", "port": 0, "path": ""} if two readers could disagree about it.
url(pointer) := object.get(_normalised, ["urls", pointer], {"scheme": "", "host": "", "port": 0, "path": ""})

# METADATA
# description: |
#   The words of the one simple command at this JSON Pointer; [""] if it is anything else (an operator,
#   an expansion, a redirection, a quote left open), so that no first word matches.
argv(pointer) := object.get(_normalised, ["argv", pointer], [""])

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
