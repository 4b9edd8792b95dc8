"""Tools for those who write policies: what was decided, why, and what another policy would have decided."""
