"""The terminal UI: an operator sees what waits, decides it, watches the trace. Loads nothing by itself."""

__all__: list[str] = []
