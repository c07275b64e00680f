"""What the author's functions are given: `TaskContext` for a capability, `LoopContext` for a loop.

The contexts decide nothing. They hand every request to a port (`TaskPort`, `LoopPort`) that the
worker implements and that a test can fake. One `TaskContext` is made for every task, so whatever
can be worked out later is worked out on first use.
"""

from __future__ import annotations

from kagent_sdk.context.current import CURRENT_LOOP, CURRENT_TASK, current_owner
from kagent_sdk.context.exposed_secrets import Secrets
from kagent_sdk.context.flag import Flag
from kagent_sdk.context.loop import LoopContext
from kagent_sdk.context.ports import CallPort, LoopPort, PendingCall, PendingItems, TaskPort
from kagent_sdk.context.requests import CallRequest
from kagent_sdk.context.task import TaskContext

__all__ = [
    "CURRENT_LOOP",
    "CURRENT_TASK",
    "CallPort",
    "CallRequest",
    "Flag",
    "LoopContext",
    "LoopPort",
    "PendingCall",
    "PendingItems",
    "Secrets",
    "TaskContext",
    "TaskPort",
    "current_owner",
]
