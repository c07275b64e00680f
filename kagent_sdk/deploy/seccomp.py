"""kos-agent export seccomp: the profile that every other manifest names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kagent_sdk.deploy.rendering import Rendering
from kagent_sdk.sandbox.seccomp.oci import oci_profile

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment

PROFILE = "seccomp.json"
"""The file's name wherever a manifest names it, beside the manifest."""


def render(deployment: Deployment) -> Rendering:
    """Return the profile of a container with host and workers."""
    return Rendering(PROFILE, {PROFILE: profile_text(deployment)})


def profile_text(deployment: Deployment) -> str:
    """Return the profile as engines read it: JSON."""
    return json.dumps(oci_profile(deployment.policy, with_host=True), indent=2) + "\n"
