"""The tools that a policy is about: their names, and the schemas of their arguments.

Read from the user's own module (`module:tools`) or from `tools.json` beside the policies, which
`fumehood policy new` writes. LangChain's tools are known by their shape, never by their class: the core
does not import langchain.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from fumehood.binding import as_json
from fumehood.canonical import JSON
from fumehood.canonical import parse as parse_json
from fumehood.errors import BindError, ConfigError
from fumehood.functions import tool_of
from fumehood.model import ToolDefinition
from fumehood.pdp.sources import PolicyFile

__all__ = [
    "FILE_NAME",
    "ToolSchema",
    "load_tools",
    "tools_beside",
    "tools_from_module",
    "tools_from_text",
    "tools_to_text",
]

FILE_NAME = "tools.json"
_ROOT = "tool_schemas"
_MAX_BYTES = 4 << 20
_MAX_DEPTH = 4  # of alternatives in a schema; a cycle of references ends here


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """One tool: `schema` is the JSON Schema of its arguments, `annotations` what its integrator said."""

    name: str
    schema: Mapping[str, JSON] = field(default_factory=dict)
    annotations: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def properties(self) -> Mapping[str, Mapping[str, JSON]]:
        """The schema of each argument, references into `$defs` followed."""
        found = self.schema.get("properties")
        items = found.items() if isinstance(found, dict) else ()
        return {name: self._followed(value) for name, value in items}

    @property
    def is_open(self) -> bool:
        """True if it also takes arguments that its schema does not name."""
        return self.schema.get("additionalProperties", False) not in (False, None)

    def types_of(self, argument: str) -> frozenset[str]:
        """The JSON types that the argument may have; empty where the schema does not say."""
        return frozenset(self._types(self.properties.get(argument, {}), 0))

    def _types(self, schema: Mapping[str, JSON], depth: int) -> Iterable[str]:
        said = schema.get("type")
        yield from (item for item in (said if isinstance(said, list) else [said]) if isinstance(item, str))
        for word in ("anyOf", "oneOf", "allOf") if depth < _MAX_DEPTH else ():
            parts = schema.get(word)
            for part in parts if isinstance(parts, list) else []:
                yield from self._types(self._followed(part), depth + 1)

    def _followed(self, value: JSON) -> Mapping[str, JSON]:
        found = value if isinstance(value, dict) else {}
        reference = found.get("$ref")
        definitions = self.schema.get("$defs")
        if isinstance(reference, str) and isinstance(definitions, dict):
            target = definitions.get(reference.rpartition("/")[2])
            return target if isinstance(target, dict) else {}
        return found


def load_tools(given: str) -> tuple[ToolSchema, ...]:
    """The tools of *given*: `module:name`, or the path of a JSON file that `fumehood policy new` wrote.

    Raises:
        ConfigError: there are none, or the module cannot be imported.
    """
    if given.endswith(".json"):
        try:
            path = Path(given)
            if path.stat().st_size > _MAX_BYTES:
                raise ConfigError(f"{given} is larger than {_MAX_BYTES} bytes")
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{given} cannot be read: {error}") from error
        return tools_from_text(text, given)
    return tools_from_module(given)


def tools_from_text(text: str, file: str) -> tuple[ToolSchema, ...]:
    """The tools that `tools_to_text` wrote.

    Raises:
        ConfigError: it is something else.
    """
    try:
        document = parse_json(text)
    except BindError as error:
        raise ConfigError(f"{file}: {error}") from error
    tools = document.get(_ROOT) if isinstance(document, dict) else None
    if not isinstance(tools, dict):
        raise ConfigError(f'{file}: expected {{"{_ROOT}": {{"name": {{"schema": …, "annotations": …}}}}}}')
    return tuple(_from_json(name, value, file) for name, value in sorted(tools.items()))


def tools_beside(given: Iterable[PolicyFile]) -> tuple[ToolSchema, ...]:
    """The tools that the `tools.json` among the files of sources name.

    Raises:
        ConfigError: one of them is something else.
    """
    files = [file for file in given if file.name.rpartition("/")[2] == FILE_NAME]
    found = [tool for file in files for tool in tools_from_text(file.text, file.path)]
    return tuple({tool.name: tool for tool in found}.values())


def _from_json(name: str, value: JSON, file: str) -> ToolSchema:
    if not isinstance(value, dict) or not value.keys() <= {"schema", "annotations"}:
        raise ConfigError(f"{file}: {name}: expected an object with schema and annotations")
    schema, annotations = value.get("schema", {}), value.get("annotations", {})
    if not isinstance(schema, dict) or not isinstance(annotations, dict):
        raise ConfigError(f"{file}: {name}: schema and annotations are objects")
    return ToolSchema(name, schema, annotations)


def tools_to_text(tools: Iterable[ToolSchema]) -> str:
    """`tools.json`: what `load_tools` reads back."""
    said = {tool.name: {"schema": dict(tool.schema), "annotations": dict(tool.annotations)} for tool in tools}
    return json.dumps({_ROOT: said}, indent=2, sort_keys=True, ensure_ascii=True) + "\n"


def tools_from_module(given: str) -> tuple[ToolSchema, ...]:
    """The tools that an attribute of a module holds: one tool, or a list, tuple, set or dictionary of tools.

    Raises:
        ConfigError: the module cannot be imported, or what it holds is no tool.
    """
    module, _, name = given.partition(":")
    if not module or not name:
        raise ConfigError(f"{given!r}: expected module:name (app.tools:TOOLS), or a .json file")
    found = _imported(module, name, given)
    items: object = found.values() if isinstance(found, Mapping) else found
    one = isinstance(items, str) or hasattr(found, "name") or not isinstance(items, Iterable)
    tools = [_tool(item, given) for item in ([found] if one else cast("Iterable[object]", items))]
    by_name = {tool.name: tool for tool in tools}
    if not tools or len(by_name) != len(tools):
        raise ConfigError(f"{given} has {'two tools of one name' if tools else 'no tools'}")
    return tuple(by_name[name] for name in sorted(by_name))


def _imported(module: str, name: str, given: str) -> object:
    here = os.getcwd()  # noqa: PTH109 - as `python -m` does: the user's own modules are beside them
    sys.path.insert(0, here)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what it prints is no part of our answer
            found: object = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise ConfigError(f"{given} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)  # nothing of ours is to be found there
    return found


def _tool(item: object, given: str) -> ToolSchema:
    definition = getattr(item, "fumehood_definition", None)
    if isinstance(definition, ToolDefinition):  # made by @guard.tool
        return _of_definition(definition)
    schema = getattr(item, "tool_call_schema", None) or getattr(item, "args_schema", None)
    name = getattr(item, "name", None)
    if isinstance(name, str) and name and schema is not None:
        return ToolSchema(name, _json_schema(schema, f"{given}: {name}"))
    if callable(item) and not isinstance(item, type):
        return _of_definition(tool_of(item).definition)
    raise ConfigError(f"{given}: {type(item).__name__} is no tool; expected LangChain tools or functions")


def _of_definition(definition: ToolDefinition) -> ToolSchema:
    return ToolSchema(definition.name, json.loads(definition.schema), as_json(definition.annotations))


def _json_schema(schema: object, where: str) -> Mapping[str, JSON]:
    """The JSON Schema of a pydantic model, of either generation, or a dictionary that is one already."""
    if isinstance(schema, Mapping):
        return cast("Mapping[str, JSON]", json.loads(json.dumps(schema)))
    for method in ("model_json_schema", "schema"):
        if callable(getattr(schema, method, None)):
            return cast("Mapping[str, JSON]", getattr(schema, method)())
    raise ConfigError(f"{where}: its arguments have no schema that can be read")
