"""kos-agent export docker-run: a shell script that runs the agent's container with every flag."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from kagent_sdk.deploy.engine_flags import (
    MACHINE_NETWORK,
    Engine,
    Flags,
    Mount,
    Surroundings,
    engine_flags,
    vault_mount,
)
from kagent_sdk.deploy.rendering import Rendering
from kagent_sdk.deploy.seccomp import PROFILE, profile_text
from kagent_sdk.deploy.topology import (
    EGRESS_CPU,
    EGRESS_FILES,
    EGRESS_HEALTH,
    EGRESS_MEMORY_BYTES,
    EGRESS_PORT,
    EGRESS_PROCESSES,
    UPSTREAM_VARIABLE,
    egress_command,
    egress_name,
)
from kagent_sdk.errors import DeployError
from kagent_sdk.sandbox.policy import Limits

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment

SCRIPT = "run.sh"
EGRESS_LIMITS = Limits(EGRESS_CPU, EGRESS_MEMORY_BYTES, EGRESS_PROCESSES, EGRESS_FILES)

HERE = "\0"
"""In a path: the script's own folder. No setting can hold this character."""

_ENGINE_NOTES = {
    "podman": "# For podman; --set engine=docker leaves out what Docker does not know.",
    "docker": "# For Docker 25 or later. It has no noexec, nosuid and nodev for mounts, and no annotations:\n"
    "# what --set engine=podman has more.",
}


def render(deployment: Deployment) -> Rendering:
    """Return the script, and the profile that it names.

    Raises:
        DeployError: a port is to be shown, and there is no network that could; or the network is the
            machine's own.
    """
    settings = deployment.settings
    if settings.network == MACHINE_NETWORK:
        raise DeployError("network: the machine's own is none for an agent; name one of the engine")
    is_shown = settings.publish is not None
    if is_shown and not deployment.policy.network.external and settings.network is None:
        raise DeployError(
            "publish: engines show a port only of a network that leads out, and the agent may not "
            "reach out; name one that you answer for with --set network=NAME, or leave publish out "
            f"and call the agent by: {settings.engine} exec {deployment.name} kos-agent call"
        )
    files = {SCRIPT: _script(deployment), PROFILE: profile_text(deployment)}
    return Rendering(SCRIPT, files, frozenset({SCRIPT}), _notes(deployment))


def _script(deployment: Deployment) -> str:
    surroundings = _surroundings(deployment)
    parts = [_head(deployment)]
    if deployment.needs_proxy:
        parts.append(_egress(deployment))
    parts += [
        _lines(group) for group in engine_flags(deployment, surroundings, _engine(deployment))
    ]
    parts.append(_run(deployment, surroundings))
    return "\n".join(parts)


def _engine(deployment: Deployment) -> Engine:
    return deployment.settings.engine


def _surroundings(deployment: Deployment) -> Surroundings:
    settings = deployment.settings
    mounts = [
        Mount(
            f"{deployment.name}-{volume.name}" if volume.is_kept else "",
            volume.target,
            # The image has runtime and logs, which a new volume is made like; others it has not.
            is_handed_over=volume.name not in {"runtime", "logs"},
        )
        for volume in deployment.volumes
    ]
    vault = vault_mount(deployment, settings.vault or f"{HERE}/secrets")
    upstream = f"{egress_name(deployment)}:{EGRESS_PORT}"
    return Surroundings(
        name=deployment.name,
        mounts=(*mounts, *(() if vault is None else (vault,))),
        networks=_networks(deployment),
        seccomp=f"{HERE}/{PROFILE}",
        publish=settings.publish,
        environment=((UPSTREAM_VARIABLE, upstream),) if deployment.needs_proxy else (),
    )


def _networks(deployment: Deployment) -> tuple[str, ...]:
    named = (deployment.settings.network,) if deployment.settings.network else ()
    if deployment.needs_proxy:
        return (_private(deployment), *named)
    return named if named or deployment.policy.network.external else ("none",)


def _private(deployment: Deployment) -> str:
    return f"{deployment.name}-private"


def _head(deployment: Deployment) -> str:
    engine = _engine(deployment)
    return f"""\
#!/bin/sh
# The agent {deployment.name} in a container: made by `kos-agent export docker-run` from config.yaml.
# It stays until it is stopped. Words behind the script are further flags, such as --detach.
{_ENGINE_NOTES[engine]}
set -eu
here=$(cd "$(dirname "$0")" && pwd)
image={shlex.quote(deployment.image)}
"""


def _egress(deployment: Deployment) -> str:
    engine, name = _engine(deployment), egress_name(deployment)
    private, outside = _private(deployment), f"{deployment.name}-outside"
    policy = replace(deployment.policy, limits=EGRESS_LIMITS)
    egress = replace(deployment, policy=policy, gpus=0, port=EGRESS_PORT, environment=())
    surroundings = Surroundings(name, networks=(private, outside), seccomp=f"{HERE}/{PROFILE}")
    groups = engine_flags(egress, surroundings, engine)
    words = [_quote(word) for group in groups for word in group.words]
    flags = " \\\n  ".join(words)
    health = shlex.quote(f"--health-cmd={shlex.join(EGRESS_HEALTH)}")
    return f"""\
# The only way out: a second container of the same image, which checks sandbox.network.allow once more.
# The agent is on a network with it alone that leads nowhere else. It has no volumes and no secrets,
# and goes by: {engine} rm --force {name}
{engine} network inspect {private} >/dev/null 2>&1 || {engine} network create --internal {private}
{engine} network inspect {outside} >/dev/null 2>&1 || {engine} network create {outside}
{engine} rm --force {name} >/dev/null 2>&1 || true
{engine} run --detach --rm --pull=never --entrypoint=kos-agent \\
  {flags} \\
  {health} \\
  "$image" {shlex.join(egress_command())}
"""


def _lines(group: Flags) -> str:
    words = " \\\n  ".join(_quote(word) for word in group.words)
    return f'# {group.reason[:1].upper()}{group.reason[1:]}.\nset -- "$@" \\\n  {words}\n'


def _run(deployment: Deployment, surroundings: Surroundings) -> str:
    engine, name = _engine(deployment), deployment.name
    lines = []
    if surroundings.publish is None:
        lines += [
            "# No port is shown on this machine. How to call the agent from here:",
            f"#   {engine} exec {name} kos-agent status",
            f"#   {engine} exec {name} kos-agent call CAPABILITY key=value",
        ]
    else:
        lines.append("# The token that callers show is agent_token in the vault.")
    lines.append(f'exec {engine} run --rm --pull=never "$@" "$image"')
    return "\n".join(lines) + "\n"


def _notes(deployment: Deployment) -> tuple[str, ...]:
    if deployment.vault is None:
        return ()
    file = deployment.vault.rpartition("/")[2]
    folder = deployment.settings.vault or "secrets/ beside the script"
    beside = f", beside {', '.join(deployment.link_files)}" if deployment.link_files else ""
    return (
        f"the vault is {file} in {folder}{beside}: root:1000, the folder 0750 and the file 0440",
    )


def _quote(word: str) -> str:
    return '"$here"'.join(shlex.quote(part) if part else "" for part in word.split(HERE))
