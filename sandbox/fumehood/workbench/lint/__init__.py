"""What `fumehood policy check` finds beyond the load gate."""

from fumehood.workbench.lint.check import Checked, check_policies
from fumehood.workbench.lint.findings import Finding

__all__ = ["Checked", "Finding", "check_policies"]
