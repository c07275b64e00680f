"""kos-agent export kubernetes: everything that runs an agent there, locked down. Pure.

What of it ``podman play kube`` reads (Deployment and PersistentVolumeClaim) runs there too; the setting
``for_podman`` makes up for what podman does in another way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kagent_sdk.deploy.kubernetes.documents import to_text
from kagent_sdk.deploy.kubernetes.names import AGENT, EGRESS, find_secret
from kagent_sdk.deploy.kubernetes.network import (
    agent_policy,
    agent_service,
    deny_policy,
    egress_policy,
    egress_service,
    replicas_service,
)
from kagent_sdk.deploy.kubernetes.pod import needs_secret
from kagent_sdk.deploy.kubernetes.workload import (
    TOKEN_KEY,
    account,
    autoscaler,
    claims,
    disruption_budget,
    egress_workload,
    find_faults,
    is_stateful,
    monitor,
    workload,
)
from kagent_sdk.deploy.rendering import Rendering
from kagent_sdk.errors import DeployError

if TYPE_CHECKING:
    from kagent_sdk.deploy.deployment import Deployment
    from kagent_sdk.deploy.kubernetes.documents import Document

MAIN = "agent.yaml"
WAY_OUT = "egress.yaml"


def render(deployment: Deployment) -> Rendering:
    """Return the agent's manifest and, where an allow-list needs it, that of its way out.

    Raises:
        DeployError: settings do not fit the agent.
    """
    faults = find_faults(deployment)
    if faults:
        raise DeployError("\n".join(faults))
    notes = _notes(deployment)
    head = f"# The agent {deployment.name}, made by kos-agent export kubernetes.\n"
    hints = "".join(f"# {note}\n" for note in notes)
    files = {MAIN: head + hints + to_text(_agent_documents(deployment))}
    if deployment.needs_proxy:
        way_out = f"# The way out of the agent {deployment.name}: what its config.yaml allows.\n"
        files[WAY_OUT] = way_out + to_text(_egress_documents(deployment))
    return Rendering(MAIN, files, notes=notes)


def _agent_documents(deployment: Deployment) -> list[Document]:
    settings = deployment.settings
    return [
        account(deployment),
        deny_policy(deployment, AGENT),
        agent_policy(deployment),
        *claims(deployment),
        agent_service(deployment),
        *([replicas_service(deployment)] if is_stateful(deployment) else []),
        workload(deployment),
        disruption_budget(deployment),
        *([autoscaler(deployment)] if settings.max_replicas is not None else []),
        *([monitor(deployment)] if settings.monitoring else []),
    ]


def _egress_documents(deployment: Deployment) -> list[Document]:
    return [
        deny_policy(deployment, EGRESS),
        egress_policy(deployment),
        egress_service(deployment),
        egress_workload(deployment),
    ]


def _notes(deployment: Deployment) -> tuple[str, ...]:
    notes = []
    if needs_secret(deployment):
        notes.append(_secret_note(deployment))
    profile = deployment.settings.seccomp_profile
    if profile is not None and deployment.settings.for_podman:
        notes.append(
            "podman play kube --seccomp-profile-root FOLDER needs what kos-agent export seccomp "
            f"prints as {profile} in FOLDER"
        )
    elif profile is not None:
        notes.append(
            "every node needs what kos-agent export seccomp prints as "
            f"/var/lib/kubelet/seccomp/{profile}"
        )
    return tuple(notes)


def _secret_note(deployment: Deployment) -> str:
    name, settings = find_secret(deployment), deployment.settings
    files = [] if deployment.vault is None else [deployment.vault.rpartition("/")[2]]
    if deployment.has_tls:
        files.append("the files of http.tls")
    files += deployment.link_files
    if settings.for_podman:
        return (
            f"first put {_enumerate(files)} into the volume {name}, of root's and the group 1000: "
            f"podman volume create {name} && tar -c --owner=0 --group=1000 --mode=ug=rX,o= "
            f"-C secrets . | podman volume import {name} -"
        )
    if settings.monitoring and deployment.has_auth:
        files.append(TOKEN_KEY)
    if settings.monitoring and deployment.has_tls:
        files.append("ca.crt")
    space = f" --namespace {settings.namespace}" if settings.namespace else ""
    return (
        f"first make the Secret {name}, of a folder with {_enumerate(files)}: "
        f"kubectl create secret generic {name}{space} --from-file=secrets/"
    )


def _enumerate(words: list[str]) -> str:
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last
