"""Manifests compared with the policy."""
