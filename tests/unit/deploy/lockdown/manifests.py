"""Manifests by hand that hold the policy of one agent, and that agent's deployments."""

from __future__ import annotations

import json
from typing import Any

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.deploy.deployment import Deployment, describe
from kagent_sdk.deploy.settings import Settings

CLOSED = {"name": "digest", "version": "1.2.0"}
PROXIED: dict[str, Any] = {**CLOSED, "sandbox": {"network": {"allow": ["api.example.com:443"]}}}
OPEN: dict[str, Any] = {**CLOSED, "sandbox": {"network": {"external": True}}}


def deployment(config: dict[str, Any] | None = None, **settings: Any) -> Deployment:
    """Return what manifests of an agent are made from; without a config it is called digest."""
    model = AgentConfig.model_validate(config if config is not None else CLOSED)
    return describe(model, "digest", Settings.model_validate(settings))


COMPOSE = """\
name: digest
services:
  digest:
    image: digest:1.2.0
    labels:
      io.kos.agent: digest
    user: "1000:1000"
    read_only: true
    cap_drop: [ALL]
    security_opt:
      - no-new-privileges
      - seccomp=./seccomp.json
    mem_limit: 536870912
    memswap_limit: 536870912
    cpus: 1.0
    pids_limit: 160
    ulimits:
      core: 0
      nofile: {soft: 1024, hard: 1024}
    networks: [private, mesh]
    environment:
      AGENT_SANDBOX__NETWORK__UPSTREAM: digest-egress:3128
    volumes:
      - runtime:/agent/runtime:rw,noexec,nosuid,nodev
      - logs:/agent/logs:rw,noexec,nosuid,nodev
      - ./secrets:/agent/secrets:ro,noexec,nosuid,nodev
    stop_grace_period: 30s
    restart: unless-stopped
  digest-egress:
    image: digest:1.2.0
    entrypoint: [kos-agent]
    command: [sandbox, egress, /agent, --listen, "0.0.0.0:3128"]
    user: "1000:1000"
    read_only: true
    cap_drop: [ALL]
    security_opt: [no-new-privileges, "seccomp=./seccomp.json"]
    mem_limit: 256m
    memswap_limit: 256m
    cpus: 0.5
    pids_limit: 64
    ulimits: {core: 0, nofile: 1024}
    networks: [private, outside]
    healthcheck: {disable: true}
networks:
  private: {internal: true}
  mesh: {internal: true}
  outside: {}
volumes:
  runtime: {}
  logs: {}
"""

DOCKER_RUN = """\
#!/bin/sh
# The agent in a container.
image=digest:1.2.0
podman network inspect digest-private >/dev/null || podman network create --internal digest-private
podman network create digest-outside
podman run --detach --name=digest-egress --entrypoint=kos-agent \\
  --user=1000:1000 --read-only --read-only-tmpfs=false --cap-drop=ALL \\
  --security-opt=no-new-privileges --security-opt=seccomp=seccomp.json \\
  --memory=256m --memory-swap=256m --cpus=1 --pids-limit=96 --ulimit=core=0:0 --ulimit nofile=1024:1024 \\
  --network=digest-private --network=digest-outside \\
  "$image" sandbox egress /agent --listen 0.0.0.0:3128
set -- --name digest --label io.kos.agent=digest --user 1000:1000
set -- "$@" --read-only --read-only-tmpfs=false \\
  --cap-drop=ALL --security-opt=no-new-privileges --security-opt=seccomp=seccomp.json \\
  --memory=536870912 --memory-swap=536870912 --cpus=1 --pids-limit=160 \\
  --ulimit=core=0:0 --ulimit=nofile=1024:1024 \\
  --network=digest-private \\
  --volume=digest-runtime:/agent/runtime:rw,noexec,nosuid,nodev \\
  -v digest-logs:/agent/logs:rw,noexec,nosuid,nodev \\
  -v "$PWD/secrets:/agent/secrets:ro,noexec,nosuid,nodev" \\
  --env=AGENT_SANDBOX__NETWORK__UPSTREAM=digest-egress:3128 \\
  --stop-timeout=30
exec podman run --rm -it "$@" "$image"  # to its end
"""

QUADLET = """\
[Unit]
Description=The agent digest

[Container]
ContainerName=digest
Image=digest:1.2.0
Label=io.kos.agent=digest
User=1000
Group=1000
ReadOnly=true
ReadOnlyTmpfs=false
DropCapability=all
NoNewPrivileges=true
SeccompProfile=%h/.config/containers/systemd/seccomp.json
PodmanArgs=--memory=536870912 --memory-swap=536870912 \\
  --cpus=1
PidsLimit=160
Ulimit=core=0:0
Ulimit=nofile=1024:1024
Network=digest-private.network
Volume=digest-runtime.volume:/agent/runtime:rw,noexec,nosuid,nodev
Volume=digest-logs.volume:/agent/logs:rw,noexec,nosuid,nodev
Volume=%h/digest/secrets:/agent/secrets:ro,noexec,nosuid,nodev
Environment=AGENT_SANDBOX__NETWORK__UPSTREAM=digest-egress:3128
StopTimeout=30

[Service]
Restart=always

[Install]
WantedBy=default.target
"""

NETWORK_UNIT = "[Network]\nInternal=true\n"


def container(name: str = "agent", **more: Any) -> dict[str, Any]:
    """Return a container of a Pod that holds the policy."""
    return {
        "name": name,
        "image": "digest:1.2.0",
        "ports": [{"name": "http", "containerPort": 8080}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        },
        "resources": {
            "requests": {"cpu": "1", "memory": "512Mi"},
            "limits": {"cpu": "1000m", "memory": "512Mi"},
        },
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}},
        "volumeMounts": [
            {"name": "runtime", "mountPath": "/agent/runtime"},
            {"name": "logs", "mountPath": "/agent/logs"},
            {"name": "vault", "mountPath": "/agent/secrets", "readOnly": True},
        ],
        "env": [{"name": "AGENT_SANDBOX__NETWORK__UPSTREAM", "value": "digest-egress:3128"}],
        **more,
    }


def pod_template(*containers: dict[str, Any], name: str = "digest", **more: Any) -> dict[str, Any]:
    """Return the template of Pods that hold the policy."""
    return {
        "metadata": {"labels": {"app.kubernetes.io/name": name, "io.kos.agent": "digest"}},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "runAsGroup": 1000,
                "fsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "terminationGracePeriodSeconds": 30,
            "containers": list(containers) or [container()],
            "volumes": [
                {"name": "runtime", "persistentVolumeClaim": {"claimName": "digest-runtime"}},
                {"name": "logs", "emptyDir": {}},
                {"name": "vault", "secret": {"secretName": "digest-vault", "defaultMode": 0o440}},
            ],
            **more,
        },
    }


def kubernetes() -> list[dict[str, Any]]:
    """Return manifests of an agent and its egress proxy, as documents."""
    egress = container(
        command=["kos-agent"], args=["sandbox", "egress", "/agent", "--listen", "0.0.0.0:3128"]
    )
    for key in ("livenessProbe", "readinessProbe", "volumeMounts", "env"):
        del egress[key]
    return [
        workload("digest", pod_template()),
        workload("digest-egress", pod_template(egress, name="digest-egress")),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "digest"},
            "spec": {
                "selector": {"app.kubernetes.io/name": "digest"},
                "ports": [{"port": 8080, "targetPort": "http"}],
            },
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "digest"},
            "spec": {
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": "digest"}},
                "policyTypes": ["Ingress", "Egress"],
                "egress": [
                    {
                        "to": [
                            {
                                "podSelector": {
                                    "matchLabels": {"app.kubernetes.io/name": "digest-egress"}
                                }
                            }
                        ],
                        "ports": [{"port": 3128}],
                    },
                    {
                        "to": [
                            {
                                "namespaceSelector": {
                                    "matchLabels": {"kubernetes.io/metadata.name": "kube-system"}
                                }
                            }
                        ],
                        "ports": [{"port": 53, "protocol": "UDP"}],
                    },
                ],
            },
        },
    ]


def workload(name: str, template: dict[str, Any], kind: str = "Deployment") -> dict[str, Any]:
    """Return what makes Pods."""
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"replicas": 1, "template": template},
    }


def as_yaml(documents: list[dict[str, Any]]) -> str:
    """Return documents as text: JSON is YAML too."""
    return "\n---\n".join(json.dumps(document, indent=1) for document in documents)


KUBERNETES = as_yaml(kubernetes())

GOOD = {
    "compose": COMPOSE,
    "docker-run": DOCKER_RUN,
    "kubernetes": KUBERNETES,
    "quadlet": QUADLET,
}


def beside(name: str) -> str | None:
    """Return the unit of the network that the Quadlet names."""
    return NETWORK_UNIT if name == "digest-private.network" else None
