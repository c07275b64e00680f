"""Snapshots: the agent's state and open tasks in one archive, and back."""
