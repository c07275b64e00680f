"""Tests of the host's logs."""
