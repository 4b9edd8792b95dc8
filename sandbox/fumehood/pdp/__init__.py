"""Deciding: loads policies, refuses bad ones, asks the embedded engine or an OPA server."""

from fumehood.pdp.bundle import Bundle, load_bundle
from fumehood.pdp.choose import open_pdp
from fumehood.pdp.gate import check
from fumehood.pdp.inspection import Inspection, inspect_sources
from fumehood.pdp.keys import BundleKey, keys_of
from fumehood.pdp.packing import pack
from fumehood.pdp.rego_tests import TestResult, run_tests
from fumehood.pdp.server import OpaServer, server_of

__all__ = [
    "Bundle",
    "BundleKey",
    "Inspection",
    "OpaServer",
    "TestResult",
    "check",
    "inspect_sources",
    "keys_of",
    "load_bundle",
    "open_pdp",
    "pack",
    "run_tests",
    "server_of",
]
