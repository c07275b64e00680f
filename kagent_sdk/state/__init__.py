"""The agent's durable key-value memory, on the database."""
