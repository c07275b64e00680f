"""Mirrors the package: one test module for each, no sockets, no sleeps."""
