"""Secrets are taken out of what is written: logs, postmortems, what a debug session shows. Pure."""
