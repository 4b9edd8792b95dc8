"""`fumehood demo`: three attacks on an agent, and what stops them. Loads langchain only when it runs."""

from fumehood_adapters.demo.command import demo

__all__ = ["demo"]
