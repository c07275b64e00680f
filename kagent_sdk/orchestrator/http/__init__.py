"""The orchestrator's HTTP server: the link for agents, and the API for callers and operators."""
