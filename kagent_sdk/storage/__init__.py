"""The agent's database: one SQLite file, its schema, and the one thread that writes to it."""
