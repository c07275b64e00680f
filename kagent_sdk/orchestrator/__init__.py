"""The embedded orchestrator: an agents' mesh on one machine. Beyond one machine: Kubernetes and NATS."""
