"""A policy as engines and Kubernetes are told it."""

from __future__ import annotations

from kagent_sdk.sandbox.export import (
    Mount,
    container_flags,
    find_mounts,
    kubernetes_fragment,
)
from kagent_sdk.sandbox.policy import HOST_PROCESSES, Destination, Limits, Network, Policy

POLICY = Policy(write=("/dev/shm", "/home/a/runtime/data", "/home/a/models", "/srv/data"))  # noqa: S108 - of the kernel's
UNLIMITED = Limits(None, None, None, None, None)


def test_mounts_are_what_is_to_last_and_the_secrets() -> None:
    """The image has the code; the agent's folder is /agent inside, other folders stay."""
    mounts = find_mounts(POLICY, "/home/a", "/home/a/secrets")

    assert mounts == (
        Mount("/home/a/logs", "/agent/logs", is_writable=True),
        Mount("/home/a/models", "/agent/models", is_writable=True),
        Mount("/home/a/runtime", "/agent/runtime", is_writable=True),
        Mount("/home/a/secrets", "/agent/secrets", is_writable=False),
        Mount("/srv/data", "/srv/data", is_writable=True),
    )
    assert len(find_mounts(Policy(), "/home/a", None)) == 2


def test_podman_gets_the_whole_policy() -> None:
    """These are the flags that were verified from inside a container."""
    mounts = (
        Mount("/a/logs", "/agent/logs", is_writable=True),
        Mount("/s", "/s", is_writable=False),
    )
    flags = container_flags(POLICY, mounts, seccomp_file="seccomp.json")

    assert flags == [
        "--user",
        "1000:1000",
        "--read-only",
        "--read-only-tmpfs=false",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--security-opt=seccomp=seccomp.json",
        "--memory=536870912",
        "--memory-swap=536870912",
        "--cpus=1",
        f"--pids-limit={128 + HOST_PROCESSES}",
        "--ulimit=core=0:0",
        "--ulimit=nofile=1024:1024",
        "--network=none",
        "--volume",
        "/a/logs:/agent/logs:rw,noexec,nosuid,nodev",
        "--volume",
        "/s:/s:ro,noexec,nosuid,nodev",
    ]


def test_docker_gets_the_flags_that_it_knows() -> None:
    """An unknown option of a volume is an error there."""
    mounts = (Mount("/a/logs", "/agent/logs", is_writable=True),)
    flags = container_flags(Policy(limits=UNLIMITED), mounts, engine="docker")

    assert "--read-only-tmpfs=false" not in flags
    assert flags[-1] == "/a/logs:/agent/logs:rw"
    assert not any(flag.startswith(("--memory", "--cpus", "--pids")) for flag in flags)


def test_a_way_out_is_left_to_the_engine_or_named() -> None:
    """The proxy of the host needs a route for what its workers may reach."""
    allowed = Policy(network=Network(allow=(Destination("example.com", 443),)))

    assert "--network=none" not in container_flags(allowed, ())
    assert "--network=none" not in container_flags(Policy(network=Network(external=True)), ())
    assert "--network=inner" in container_flags(POLICY, (), network="inner")


def test_kubernetes_gets_contexts_resources_and_volumes() -> None:
    """The fragment passes the restricted Pod Security Standard."""
    fragment = kubernetes_fragment(POLICY, find_mounts(POLICY, "/home/a", "/home/a/secrets"))
    container = fragment["containers"][0]

    assert fragment["securityContext"]["runAsUser"] == 1000
    assert fragment["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"] == {"cpu": "1000m", "memory": "536870912"}
    assert {"name": "volume-3", "mountPath": "/agent/secrets", "readOnly": True} in container[
        "volumeMounts"
    ]
    assert fragment["volumes"][3]["secret"]["secretName"] == "agent-vault"
    assert kubernetes_fragment(Policy(limits=UNLIMITED), ())["containers"][0]["resources"] == {}
