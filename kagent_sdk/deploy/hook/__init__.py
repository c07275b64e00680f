"""The program that vetoes a container that is not locked down: a file that is exported, not imported."""
