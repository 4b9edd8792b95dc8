"""Running code confined. What is public is listed in `__all__`."""
