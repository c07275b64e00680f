"""Compare what a manifest says of a container with what the policy wants of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kagent_sdk.deploy.deployment import Deployment
from kagent_sdk.deploy.lockdown.amounts import compare_amounts
from kagent_sdk.deploy.lockdown.environment import compare_environment
from kagent_sdk.deploy.lockdown.facts import Lockdown, Role
from kagent_sdk.deploy.lockdown.loosening import Loosening, sort_loosenings
from kagent_sdk.deploy.lockdown.privileges import compare_privileges
from kagent_sdk.deploy.lockdown.surroundings import compare_surroundings


def compare(wanted: Deployment, found: Lockdown) -> tuple[Loosening, ...]:
    """Return everything that a manifest loosens for one container; empty: it holds.

    What the manifest tightens is no finding. What is not understood is one: it may be anything.
    """
    loosenings = [
        *compare_privileges(wanted, found),
        *compare_surroundings(wanted, found),
        *_life(found),
        *compare_environment(wanted, found),
    ]
    if found.role is not Role.OTHER:
        loosenings += compare_amounts(wanted, found)
    loosenings += [
        Loosening(
            "not_understood", "known words alone", one.text, one.where, "look at it", "warning"
        )
        for one in found.unknown
    ]
    return sort_loosenings(loosenings)


def _life(found: Lockdown) -> Iterator[Loosening]:
    """Yield what else than the image's own program may run, and what nobody would notice."""
    if found.role is not Role.AGENT:
        return
    image = found.image or ""
    tag = image.rpartition("/")[2].partition(":")[2]
    if "@" not in image and tag in {"", "latest"}:
        place = found.place("image")
        text = f"{image or 'no image'}: whichever is there"
        yield Loosening("image", "a version", text, place, "name a tag or a digest", "warning")
    words = [word for word in found.command if not word.startswith("-")]
    if words and words[:2] != ["kos-agent", "run"] and words[:1] != ["/agent"]:
        text = f"runs {' '.join(found.command[:4])}"
        place = found.place("command")
        fix = "remove it: the image runs kos-agent run"
        yield Loosening("entrypoint", "the image's own", text, place, fix, "warning")
    for one in found.health:
        fix = "leave the image's, or probe /healthz and /readyz"
        yield Loosening("health", "somebody looks", one.text, one.where, fix, "warning")
