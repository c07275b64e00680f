"""The tables of the fleet in ``orchestrator.db``."""

from __future__ import annotations

FLEET_TABLES: tuple[str, ...] = ()
"""Statements that make them; see `kagent_sdk.orchestrator.schema`."""
