"""Deciding: loads policies, refuses bad ones, asks the embedded engine or an OPA server."""

from fumehood.pdp.bundle import Bundle, load_bundle
from fumehood.pdp.choose import open_pdp
from fumehood.pdp.gate import check

__all__ = ["Bundle", "check", "load_bundle", "open_pdp"]
