"""Phantoms and packages with known truth, and contract suites for plug-ins; shipped for third parties."""
