"""Mirrors kagent_sdk.cli."""
