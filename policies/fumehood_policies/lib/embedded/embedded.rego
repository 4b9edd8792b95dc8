# METADATA
# title: What the embedded engine does differently, done as OPA does it
# description: |
#   The embedded engine is given policies in which these stand for the built-ins; OPA never sees this file.
package fumehood.embedded

# METADATA
# description: Stands for count, which counts a text's bytes in the embedded engine, its characters in OPA.
size(value) := count(value) if not is_string(value)

size(value) := count(split(value, "")) if {
	is_string(value)
	value != ""
}

size("") := 0

# METADATA
# description: |
#   Stands for lower, which maps one character to one character in OPA. Only these two letters become
#   something else under Unicode's full case mapping (SpecialCasing.txt).
lowered(text) := lower(replace(replace(text, "İ", "i"), "Σ", "σ"))

# METADATA
# description: |
#   What `some … in` goes through: OPA finds nothing in what is no collection, where the embedded engine
#   raises.
collection(value) := value if is_array(value)

collection(value) := value if is_object(value)

collection(value) := value if is_set(value)
