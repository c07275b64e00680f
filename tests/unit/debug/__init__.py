"""Tests of the debug server and its commands."""
