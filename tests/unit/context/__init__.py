"""Unit tests of kagent_sdk.context."""
