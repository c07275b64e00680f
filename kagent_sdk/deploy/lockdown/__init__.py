"""What a manifest says of a container, compared with what the agent's policy wants."""
