"""The agent's side of kLink: registration, heartbeats, tasks with leases, reports; over HTTP or NATS."""
