"""The command kos-agent."""
