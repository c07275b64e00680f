"""Unit tests of kagent_sdk.storage."""
