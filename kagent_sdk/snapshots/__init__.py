"""Snapshots: the state and the open tasks of an agent in one file, made while it serves."""
