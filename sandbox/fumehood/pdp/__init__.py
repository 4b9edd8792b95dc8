"""Deciding: loads policies, refuses bad ones, asks the embedded engine or an OPA server."""

from fumehood.pdp.bundle import Bundle, load_bundle
from fumehood.pdp.choose import open_pdp
from fumehood.pdp.gate import check
from fumehood.pdp.rego_tests import TestResult, run_tests
from fumehood.pdp.server import OpaServer, server_of

__all__ = ["Bundle", "OpaServer", "TestResult", "check", "load_bundle", "open_pdp", "run_tests", "server_of"]
