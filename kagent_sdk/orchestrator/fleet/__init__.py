"""The agents that the orchestrator itself starts, watches, updates and stops."""
