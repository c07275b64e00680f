"""The releases of one agent: made, checked, chosen, removed. Everything blocks: use it in a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kagent_sdk.orchestrator.fleet.layout import TRIAL, Layout
from kagent_sdk.orchestrator.fleet.ownership import make_folder
from kagent_sdk.orchestrator.fleet.releases import make_release, prune_releases

if TYPE_CHECKING:
    from pathlib import Path

    from kagent_sdk.orchestrator.fleet.preparation import Preparation

STOP_MARGIN_S = 5.0
"""Beside the agent's own ``shutdown.grace_s``."""

DEFAULT_GRACE_S = 25.0


class ReleaseShelf:
    """Keeps an agent's releases.

    Args:
        preparation: of its folders.
        layout: of the mesh.

    Attributes:
        grace_s: what a replica of the chosen release gets to stop.
    """

    def __init__(self, preparation: Preparation, layout: Layout) -> None:
        self.grace_s = DEFAULT_GRACE_S + STOP_MARGIN_S
        self._preparation = preparation
        self._layout = layout

    def path(self, release: str) -> Path:
        """Return the folder of a release."""
        return self._layout.releases(self._preparation.name) / release

    def make(self) -> str:
        """Make a release of the author's folder, and return its name.

        Raises:
            OrchestratorError: it cannot be made, or has no image.
            ConfigError: the configuration does not say what its image is.
            OSError: there is no room for it.
        """
        preparation, releases = self._preparation, self._layout.releases(self._preparation.name)
        make_folder(releases, self._layout.data)
        image = preparation.find_image(self._layout.place(preparation.name, TRIAL))
        return make_release(preparation.source, releases, image)

    def check(self, release: str) -> float:
        """See that a release can be started; return what a replica of it gets to stop.

        Raises:
            OrchestratorError: its configuration is wrong.
        """
        place = self._layout.place(self._preparation.name, TRIAL)
        workplace = self._preparation.check(self.path(release), place)
        return workplace.config.shutdown.grace_s + STOP_MARGIN_S

    def choose(self, release: str, before: str | None) -> None:
        """Take a release for the one that runs, and remove those that nobody needs.

        Args:
            release: its name.
            before: the one to go back to.

        Raises:
            OrchestratorError: its configuration is wrong.
        """
        self.grace_s = self.check(release)
        needed = {release, before or release}
        prune_releases(self._layout.releases(self._preparation.name), needed)
