"""Unit tests of kagent_sdk.protocol."""
