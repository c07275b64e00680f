"""Mirrors kagent_sdk.debug.commands."""
