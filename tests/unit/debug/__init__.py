"""Mirrors kagent_sdk.debug."""
