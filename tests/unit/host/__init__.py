"""Unit tests of kagent_sdk.host."""
