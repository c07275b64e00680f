"""Unit tests of kagent_sdk.worker."""
