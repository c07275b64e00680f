"""Unit tests of `kagent_sdk.orchestrator.fleet`."""
