"""The commands of a debug session, run in the worker beside aiomonitor's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click


def make_commands() -> tuple[click.Command, ...]:
    """Load and return the commands; each wants a `kagent_sdk.debug.port.Session` as ``ctx.obj``."""
    from kagent_sdk.debug.commands import (  # noqa: PLC0415 - an agent that is never debugged pays nothing
        collector,
        memory,
        profile,
        referrers,
        stacks,
        surroundings,
        tasks,
    )

    return (
        tasks.tasks,
        tasks.task,
        stacks.stacks,
        memory.memory,
        referrers.referrers,
        collector.gc,
        profile.profile,
        surroundings.loops,
        surroundings.secrets,
        surroundings.state,
        surroundings.log,
    )
