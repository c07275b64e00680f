"""The trial of a release: run once, alone and without the link, so that a bad one replaces nothing."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from kagent_sdk.orchestrator.fleet.layout import TRIAL, Layout
from kagent_sdk.orchestrator.fleet.news import tell_nobody
from kagent_sdk.orchestrator.fleet.replica import Remember, Replica
from kagent_sdk.orchestrator.fleet.workplace import LinkGrounds

if TYPE_CHECKING:
    from pathlib import Path

    from kagent_sdk.orchestrator.fleet.client import ReplicaClient
    from kagent_sdk.orchestrator.fleet.preparation import Preparation

TRIAL_NUMBER = -1


class Trial:
    """Tries releases of one agent, one at a time.

    Args:
        preparation: of its replicas; the one that is tried has no link.
        layout: of the mesh.
        client: asks it.
        remember: writes down its process.
    """

    def __init__(
        self,
        preparation: Preparation,
        layout: Layout,
        client: ReplicaClient,
        *,
        remember: Remember,
    ) -> None:
        self._preparation = replace(preparation, link=LinkGrounds(None, None))
        self._place = layout.place(preparation.name, TRIAL)
        self._client = client
        self._remember = remember
        self._replica: Replica | None = None

    async def run(self, release: Path, grace_s: float) -> str | None:
        """Start a release beside what runs, and end it; return why it was not ready.

        Args:
            release: its folder.
            grace_s: what it gets to stop.
        """
        trial = self._replica = Replica(
            TRIAL_NUMBER,
            self._place,
            self._preparation,
            self._client,
            remember=self._remember,
            tell=tell_nobody,
        )
        try:
            await asyncio.to_thread(shutil.rmtree, self._place.folder, ignore_errors=True)
            trial.start(release)
            reason = await trial.wait_ready(self._preparation.spec.start_timeout_s)
        finally:
            await trial.stop(grace_s)
            self._replica = None
        await asyncio.to_thread(shutil.rmtree, self._place.folder, ignore_errors=True)
        return reason

    async def stop(self, within_s: float) -> None:
        """End what is being tried, if there is something."""
        if self._replica is not None:
            await self._replica.stop(within_s)
