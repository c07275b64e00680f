"""Unit tests of kagent_sdk.sandbox.seccomp."""
