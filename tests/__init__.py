"""Tests of kagent_sdk: unit, integration, acceptance, architecture and documentation."""
