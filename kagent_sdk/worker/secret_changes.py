"""Tell the author's ``on_secrets_changed`` functions of new values, in the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from inspect import isawaitable

from kagent_sdk.context import Secrets
from kagent_sdk.worker.hooks import is_cancelled_from_outside
from kagent_sdk.worker.parts import SecretsHook
from kagent_sdk.worker.tracebacks import print_exception


class SecretChanges:
    """Calls the functions once the agent is up, one after the other, for each change.

    Changes that come while they run are told together, after.

    Args:
        hooks: in the order of declaration.
        secrets: given to those that take them.
    """

    def __init__(self, hooks: Sequence[SecretsHook], secrets: Secrets) -> None:
        self._hooks = hooks
        self._secrets = secrets
        self._changed = asyncio.Event()
        self._job: asyncio.Task[None] | None = None

    def note(self) -> None:
        """Let the functions know, soon."""
        self._changed.set()

    def start(self) -> None:
        """Begin to call them; what was noted before counts."""
        if self._hooks:
            self._job = asyncio.get_running_loop().create_task(
                self._run(), name="on_secrets_changed"
            )

    def close(self) -> None:
        """Call them no more."""
        if self._job is not None:
            self._job.cancel()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            for hook in self._hooks:
                await self._call(hook)

    async def _call(self, hook: SecretsHook) -> None:
        try:
            result = hook.function(*([self._secrets] if hook.takes_secrets else []))
            if isawaitable(result):
                await result
        except (Exception, SystemExit, asyncio.CancelledError) as exc:
            if is_cancelled_from_outside(exc):
                raise
            name = getattr(hook.function, "__qualname__", repr(hook.function))
            print_exception(f"on_secrets_changed function {name!r} failed:", exc)
