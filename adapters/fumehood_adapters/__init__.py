"""Faces of the guard towards agent frameworks; import one by name: `fumehood_adapters.langchain`."""
