"""Unit tests of kagent_sdk.state."""
