"""The load gate: what may not decide is refused before anything starts, with the place and the remedy."""

from fumehood.pdp.gate.inspect import Verdict, check, inspect
from fumehood.pdp.gate.trial import trial_engine

__all__ = ["Verdict", "check", "inspect", "trial_engine"]
