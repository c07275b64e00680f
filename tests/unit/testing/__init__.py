"""Tests of `kagent_sdk.testing`."""
