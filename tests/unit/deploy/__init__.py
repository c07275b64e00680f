"""Mirrors kagent_sdk.deploy."""
