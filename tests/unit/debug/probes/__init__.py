"""Mirrors kagent_sdk.debug.probes."""
