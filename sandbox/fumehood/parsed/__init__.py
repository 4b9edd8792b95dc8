"""Arguments as what they mean: paths on this host, URLs, shell commands, SQL statements."""

from fumehood.parsed.assemble import Reads, missing_parsers, parsed_arguments
from fumehood.parsed.words import Unparseable

__all__ = ["Reads", "Unparseable", "missing_parsers", "parsed_arguments"]
