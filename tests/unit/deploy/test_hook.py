"""What the hook makes of a bundle: locked down, or which control is loose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import pytest

from kagent_sdk.deploy.hook.bundle import Malformed, parse
from kagent_sdk.deploy.hook.veto import describe, judge
from kagent_sdk.deploy.oci_hook import wanted_of
from tests.unit.deploy.bundles import change, deploy, good_bundle, machine

LOG = {"destination": "/dev/termination-log", "type": "bind", "source": "/pods/log", "options": []}
HOSTS = {"destination": "/etc/hosts", "type": "bind", "source": "/pods/hosts", "options": ["rbind"]}
PODS = {"hook_for": "pods"}


def controls_of(
    *changes: tuple[str, Any],
    config: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    **differences: Any,
) -> list[str]:
    """Return the controls that a changed bundle loosens, each once."""
    bundle = good_bundle()
    for path, value in changes:
        change(bundle, path, value)
    wanted = _wanted(json.dumps([config, settings or {}]))
    found = judge(parse(json.dumps(bundle).encode()), wanted, machine(**differences))
    return list(dict.fromkeys(control for control, _, _ in found))


def bind(
    place: str, source: str = "/srv/data", *options: str, kind: str = "bind"
) -> dict[str, Any]:
    """Return a mount as a bundle has it."""
    return {"destination": place, "type": kind, "source": source, "options": list(options)}


HARD = ("nosuid", "nodev", "noexec")


def test_a_bundle_that_is_locked_down_is_accepted() -> None:
    """A hook that refuses what our own manifests ask for would be taken out again."""
    assert controls_of() == []


@pytest.mark.parametrize(
    ("control", "path", "value"),
    [
        ("user", "process.user.uid", 0),
        ("user", "process.user.gid", 0),
        ("user", "process.user.uid", ...),
        ("user", "process.user.additionalGids.+", 0),
        ("user", "linux.uidMappings", [{"containerID": 0, "hostID": -1000 + 0, "size": 9999}]),
        ("user", "linux.uidMappings", [{"containerID": 1000, "hostID": 0, "size": 1}]),
        ("user", "linux.gidMappings", [{"containerID": 999, "hostID": -1, "size": 2}]),
        ("root", "root.readonly", False),
        ("root", "root.path", "/"),
        ("new_privileges", "process.noNewPrivileges", False),
        ("new_privileges", "process.noNewPrivileges", ...),
        ("capabilities", "process.capabilities.bounding", ["CAP_NET_RAW"]),
        ("capabilities", "process.capabilities.ambient", ["CAP_NET_BIND_SERVICE"]),
        ("seccomp", "linux.seccomp", ...),
        ("seccomp", "linux.seccomp.defaultAction", "SCMP_ACT_ALLOW"),
        ("seccomp", "linux.seccomp.defaultAction", "SCMP_ACT_LOG"),
        ("seccomp", "linux.seccomp.listenerPath", "/run/x"),
        ("seccomp", "linux.seccomp.flags", ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
        ("seccomp", "linux.seccomp.syscalls.+", {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW"}),
        ("seccomp", "linux.seccomp.syscalls.+", {"names": ["socket"], "action": "SCMP_ACT_ALLOW"}),
        ("seccomp", "linux.seccomp.syscalls.+", {"names": ["bpf"], "action": "SCMP_ACT_TRACE"}),
        ("memory", "linux.resources.memory", ...),
        ("memory", "linux.resources.memory.limit", 1 << 30),
        ("memory", "linux.resources.memory.limit", -1),
        ("memory", "linux.resources.memory.swap", -1),
        ("memory", "linux.resources.memory.swap", ...),
        ("memory", "linux.resources.memory.disableOOMKiller", True),
        ("cgroup", "linux.resources.unified", {"memory.max": "max"}),
        ("cgroup", "linux.resources.unified", {"memory.swap.max": "max"}),
        ("cpu", "linux.resources.cpu", ...),
        ("cpu", "linux.resources.cpu.quota", 200_000),
        ("cpu", "linux.resources.cpu.quota", -1),
        ("cpu", "linux.resources.cpu.period", 1000),
        ("cpu", "linux.resources.cpu.realtimeRuntime", 1000),
        ("processes", "linux.resources.pids", ...),
        ("processes", "linux.resources.pids.limit", 0),
        ("processes", "linux.resources.pids.limit", 161),
        ("namespaces", "linux.namespaces.0", {"type": "time"}),
        ("namespaces", "linux.namespaces.0.path", "/proc/7/ns/pid"),
        ("namespaces", "linux.namespaces.2.path", "/proc/7/ns/ipc"),
        ("namespaces", "linux.rootfsPropagation", "rshared"),
        (
            "devices",
            "linux.devices",
            [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
        ),
        ("devices", "linux.devices", [{"path": "/dev/null", "type": "b", "major": 1, "minor": 3}]),
        ("devices", "linux.devices", [{"path": "/dev/nvidia0", "type": "c", "major": 195}]),
        ("devices", "linux.resources.devices", []),
        ("devices", "linux.resources.devices.+", {"allow": True, "access": "rwm"}),
        ("devices", "linux.resources.devices.+", {"allow": True, "type": "b", "access": "r"}),
        ("devices", "linux.resources.devices.0", {"allow": False, "type": "c", "access": "rwm"}),
        ("mounts", "mounts.+", bind("/data", "/srv/data", *HARD)),
        ("mounts", "mounts.+", bind("/agent", "/srv/data", *HARD)),
        ("mounts", "mounts.+", bind("agent/runtime/../code", "/srv/data", *HARD)),
        ("mounts", "mounts.+", bind("/data", "/srv/engine", "ro")),
        ("mounts", "mounts.+", bind("/data", "/srv/docker.sock", "ro")),
        ("mounts", "mounts.+", bind("/data", "/srv/disk", "ro")),
        ("mounts", "mounts.+", bind("/data", "/run", "ro")),
        ("mounts", "mounts.+", bind("/data", "/", "ro")),
        ("mounts", "mounts.+", bind("/data", "/sys/fs/cgroup", "ro")),
        ("mounts", "mounts.+", bind("/proc/sys", "/srv/data", "ro")),
        ("mounts", "mounts.+", bind("/dev/kvm", "/srv/data", "ro")),
        ("mounts", "mounts.+", bind("/data", "/srv/data", "rbind", kind="none")),
        ("mounts", "mounts.+", bind("/tmp", "tmpfs", *HARD, kind="tmpfs")),  # noqa: S108
        ("mounts", "mounts.+", bind("/data", "overlay", *HARD, kind="overlay")),
        ("mounts", "mounts.1.options", ["nosuid", "noexec", "nodev"]),
        ("mounts", "mounts.2.options", ["noexec"]),
        ("mounts", "mounts.6.options", ["rw", "nosuid", "nodev"]),
        ("mounts", "mounts.6.options", [*HARD, "exec"]),
        ("mounts", "mounts.6.options", [*HARD, "defaults"]),
        ("mounts", "mounts.6.options", [*HARD, "rshared"]),
        ("mounts", "mounts.8.options", [*HARD, "ro", "rw"]),
        ("masked_paths", "linux.maskedPaths", []),
        ("readonly_paths", "linux.readonlyPaths", ["/proc/bus"]),
        ("rlimits", "process.rlimits.1.hard", 1),
        ("rlimits", "process.rlimits.0.soft", 4096),
        ("rlimits", "process.rlimits", ...),
        ("rlimits", "process.rlimits.+", {"type": "RLIMIT_RTPRIO", "soft": 0, "hard": 99}),
        ("oom_score", "process.oomScoreAdj", -1),
        ("environment", "process.env.+", "AGENT_SANDBOX__MODE=report"),
        ("environment", "process.env.+", "AGENT_sandbox__mode=off"),
        ("environment", "process.env.+", "AGENT_SANDBOX={mode: off}"),
        ("environment", "process.env.+", "AGENT_SANDBOX__NETWORK__EXTERNAL=true"),
        ("environment", "process.env.+", "AGENT_WORKER__USER=keep"),
        ("environment", "process.env.+", "AGENT_HTTP__AUTH=none"),
        ("environment", "process.env.+", "AGENT_CONFIG=/agent/runtime/data/config.yaml"),
        ("environment", "process.env.+", "LD_PRELOAD=/usr/lib/a.so /agent/runtime/data/b.so"),
        ("environment", "process.env.+", "PYTHONPATH=/agent:/agent/logs"),
        ("sysctl", "linux.sysctl", {"kernel.shmmax": "1"}),
        ("confinement", "process.apparmorProfile", "unconfined"),
        ("confinement", "process.selinuxLabel", "system_u:system_r:spc_t:s0"),
        ("personality", "linux.personality", {"domain": "LINUX32"}),
        ("personality", "linux.personality", {"domain": "LINUX", "flags": ["X"]}),
        ("scheduler", "process.scheduler", {"policy": "SCHED_FIFO"}),
        ("annotations", "annotations.run.oci.handler", "x"),
    ],
)
def test_a_bundle_with_one_loose_control_is_refused_for_it(
    control: str, path: str, value: Any
) -> None:
    """Each is a way out of the container, or a way to take what belongs to others."""
    if path.startswith("annotations."):
        path, value = "annotations", {path.removeprefix("annotations."): value}

    assert controls_of((path, value)) == [control]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("process.capabilities", ...),
        ("process.capabilities", {"bounding": [], "ambient": None}),
        ("process.scheduler", {"policy": "SCHED_BATCH"}),
        ("process.env.+", "AGENT_SANDBOX__MODE=enforce"),
        ("process.env.+", "AGENT_SANDBOX__NETWORK__UPSTREAM=shop-egress:3128"),
        ("process.env.+", "AGENT_WORKER__ISOLATION=process"),
        ("process.env.+", "PYTHONPATH=/agent/lib"),
        ("process.env.+", "novalue"),
        ("process.oomScoreAdj", 100),
        ("process.apparmorProfile", "containers-default"),
        ("linux.personality", {"domain": "LINUX"}),
        ("linux.sysctl", {"net.ipv4.ping_group_range": "0 0"}),
        ("linux.uidMappings", [{"containerID": 0, "hostID": 100_000, "size": 65_536}]),
        ("linux.resources.unified", {"memory.oom.group": "1", "memory.swap.max": "0"}),
        ("linux.resources.cpu", {"quota": 50_000}),
        ("linux.resources.pids.limit", 10),
        ("linux.resources.devices.+", {"allow": True, "type": "c", "access": "m"}),
        ("linux.resources.devices.+", {"allow": True, "type": "c", "major": 1, "minor": 3}),
        ("linux.resources.devices.+", {"allow": True, "type": "c", "major": 136, "minor": -1}),
        ("linux.devices", [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3}]),
        ("linux.namespaces.1.path", "/run/netns/netns-1"),
        ("linux.seccomp.defaultAction", "SCMP_ACT_KILL_PROCESS"),
        ("mounts.+", bind("/agent/runtime/data", "/srv/data", *HARD)),
        ("mounts.+", bind("/agent/logs", "tmpfs", *HARD, kind="tmpfs")),
        ("mounts.+", bind("/opt/model", "/srv/model", "ro")),
    ],
)
def test_a_bundle_that_differs_in_what_is_no_matter_is_accepted(path: str, value: Any) -> None:
    """Engines differ in how they say the same; administrators may tighten what we ask for."""
    assert controls_of((path, value)) == []


def test_a_container_in_a_namespace_of_the_machine_is_refused_whatever_its_bundle_says() -> None:
    """A path may lead to the machine's own namespace: the process tells where it is."""
    assert controls_of(shared=frozenset({"network"})) == ["namespaces"]


def test_a_cgroup_namespace_is_wanted_where_all_cgroups_are_of_version_2() -> None:
    """Older machines mount theirs read-only, and podman makes no namespace there."""
    without = ("linux.namespaces.5", {"type": "time"})

    assert controls_of(without) == ["namespaces"]
    assert controls_of(without, is_unified=False) == []


def test_the_user_of_a_rootless_engine_may_be_mapped_to_itself() -> None:
    """Number 0 of a user namespace is the user that runs the engine."""
    mapped = ("linux.uidMappings", [{"containerID": 1000, "hostID": 0, "size": 1}])

    assert controls_of(mapped, is_mapped=True) == []


def test_a_link_does_not_hide_what_is_mounted() -> None:
    """The bundle names the link; the engine mounts what it points to."""
    links = {"/srv/innocent": "/run", "/srv/root": "/"}

    assert controls_of(
        ("mounts.+", bind("/data", "/srv/innocent", "ro")),
        resolve=lambda path: links.get(path, path),
    ) == ["mounts"]
    assert controls_of(("root.path", "/srv/root"), resolve=lambda path: links.get(path, path)) == [
        "root"
    ]


def test_limits_that_the_agent_does_without_are_not_looked_at() -> None:
    """config.yaml may say that the machine sets them."""
    limits = dict.fromkeys(("cpu", "memory_bytes", "processes", "open_files"))
    config = {"sandbox": {"limits": limits}}

    assert (
        controls_of(
            ("linux.resources.memory", ...),
            ("linux.resources.cpu", ...),
            ("linux.resources.pids", ...),
            ("process.rlimits.0.hard", 1 << 20),
            config=config,
        )
        == []
    )


def test_an_agent_of_a_low_port_may_keep_the_right_to_bind_it() -> None:
    """NET_BIND_SERVICE is the one capability that Kubernetes' restricted level lets add."""
    changes = ("process.capabilities", {"ambient": ["CAP_NET_BIND_SERVICE"]})

    assert controls_of(changes, config={"http": {"port": 80}}) == []


def test_an_agent_with_gpus_may_have_their_devices_and_no_others() -> None:
    """nvidia-uvm's number differs from boot to boot: the bundle's node tells it."""
    uvm = {"path": "/dev/nvidia-uvm", "type": "c", "major": 511, "minor": 0}
    disk = {"path": "/dev/nvidia/../sda", "type": "b", "major": 8, "minor": 0}
    rules = [
        {"allow": False},
        {"allow": True, "type": "c", "major": 511, "minor": 0, "access": "rw"},
        {"allow": True, "type": "c", "major": 195, "access": "rw"},
    ]
    socket = bind("/run/nvidia-persistenced/socket", "/run/nvidia-persistenced/socket", "ro")
    config = {"limits": {"gpus": 1}}
    devices = ("linux.devices", [uvm])
    changes = devices, ("linux.resources.devices", rules), ("mounts.+", socket)

    def kind_of(path: str) -> str:
        return "socket" if path.endswith("/socket") else "other"

    assert controls_of(*changes, config=config, kind_of=kind_of) == []
    assert controls_of(*changes, kind_of=kind_of) == ["devices", "mounts"]
    assert controls_of(("linux.devices", [disk]), config=config) == ["devices"]


def test_a_container_of_a_pod_may_share_what_pods_share() -> None:
    """A kubelet mounts without options, limits processes by the Pod, and sets no rlimits."""
    changes = [
        ("process.rlimits", ...),
        ("process.oomScoreAdj", -997),
        ("linux.resources.pids", ...),
        ("linux.resources.memory.swap", ...),
        ("linux.namespaces.2.path", "/proc/7/ns/ipc"),
        ("linux.namespaces.3.path", "/proc/7/ns/uts"),
        ("linux.seccomp.syscalls.+", {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW"}),
        ("mounts.5", HOSTS),
        ("mounts.6.options", ["rbind", "rw"]),
        ("mounts.+", LOG),
    ]

    assert controls_of(*changes, settings=PODS) == []
    assert controls_of(("linux.namespaces.0.path", "/proc/7/ns/pid"), settings=PODS) == [
        "namespaces"
    ]


def test_what_is_found_is_one_line_that_names_the_control_and_the_others() -> None:
    """An engine shows the end of stderr: the reader must see what to mend."""
    line = describe([("user", "0:0", "1000:1000"), ("cpu", "2", "1"), ("user", "x", "y")])

    assert line == "user: found 0:0; wanted 1000:1000; also: cpu"


def test_what_a_bundle_says_cannot_break_the_line() -> None:
    """A name with an escape sequence in it would write on the administrator's terminal."""
    bundle = good_bundle()
    change(bundle, "linux.sysctl", {"a\n\x1b[2J" + "b" * 500: ""})
    found = judge(parse(json.dumps(bundle).encode()), wanted_of(deploy()), machine())

    assert describe(found) == f"sysctl: found a??[2j{'b' * 74}; wanted none but net.*"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"\xff{}",
        b"{} {}",
        b'{"process": {}, "Process": {}}',
        b'{"a": {"k": 1, "K": 2}}',
        b'{"a": {"k": 1, "\xe2\x84\xaa": 2}}',
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"a": ' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_plain_json_object_is_refused(text: bytes) -> None:
    """Go takes keys in any case, and the last of two: the hook must not read another than it does."""
    with pytest.raises(Malformed):
        parse(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("root.path", ...),
        ("root.path", "/a\0b"),
        ("mounts", ...),
        ("mounts.6.source", ...),
        ("mounts.6.destination", ""),
        ("process.rlimits.0.hard", ...),
        ("linux.uidMappings", [{}]),
        ("linux.resources.memory.limit", 1.5),
        ("linux.resources.memory.limit", True),
        ("linux.namespaces", ["pid"]),
        ("process.env", [1]),
    ],
)
def test_what_the_specification_does_not_know_is_malformed(path: str, value: Any) -> None:
    """What is not understood is not judged, and so not let through."""
    with pytest.raises(Malformed):
        controls_of((path, value))


@pytest.mark.parametrize("value", ["x", "\0", [], [[]], [{}], {}, {"x": [{}]}, -1, 1e9, True, None])
def test_no_type_of_a_value_is_more_than_the_hook_can_take(value: Any) -> None:
    """Whoever writes a bundle must not choose where the hook breaks."""
    wanted = wanted_of(deploy())
    short = _short_bundle()
    for way in list(_ways(short)):
        bundle = deepcopy(short)
        change(bundle, ".".join(way), value)
        try:
            found = judge(parse(json.dumps(bundle).encode()), wanted, machine())
        except Malformed:
            continue

        assert all(isinstance(text, str) for loose in found for text in loose)


@cache
def _wanted(of: str) -> dict[str, Any]:
    config, settings = json.loads(of)
    return wanted_of(deploy(config, **settings))


def _short_bundle() -> dict[str, Any]:
    bundle = good_bundle()
    bundle["linux"]["seccomp"]["syscalls"] = bundle["linux"]["seccomp"]["syscalls"][1:3]
    return bundle


def _ways(value: Any, way: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the way to every value of a document."""
    if way:
        yield way
    if isinstance(value, dict):
        for key, each in value.items():
            if "." not in key:
                yield from _ways(each, (*way, key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _ways(each, (*way, str(number)))
