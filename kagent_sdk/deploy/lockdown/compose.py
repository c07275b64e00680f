"""Read a compose file: the services of an agent. Pure.

The names are those of the Compose Specification
(https://github.com/compose-spec/compose-spec/blob/main/spec.md). A value with a variable in it is
read as it stands: what it will be nobody knows, so it never counts as safe.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kagent_sdk.deploy.deployment import Deployment
from kagent_sdk.deploy.lockdown.data import at, is_misfit, items, mapping, numbered, shown, texts
from kagent_sdk.deploy.lockdown.documents import Document, read_documents
from kagent_sdk.deploy.lockdown.draft import Draft
from kagent_sdk.deploy.lockdown.facts import Lockdown, Network
from kagent_sdk.deploy.lockdown.quantities import number, whole
from kagent_sdk.deploy.lockdown.roles import LABEL, choose, is_ours, role_of
from kagent_sdk.errors import DeployError

HARMLESS = frozenset(
    {
        "annotations",
        "attach",
        "blkio_config",
        "build",
        "configs",
        "container_name",
        "cpu_count",
        "cpu_percent",
        "cpu_shares",
        "cpuset",
        "depends_on",
        "dns",
        "dns_opt",
        "dns_search",
        "domainname",
        "expose",
        "external_links",
        "extra_hosts",
        "hostname",
        "image",
        "init",
        "label_file",
        "labels",
        "links",
        "logging",
        "mac_address",
        "mem_reservation",
        "mem_swappiness",
        "oom_score_adj",
        "platform",
        "profiles",
        "pull_policy",
        "restart",
        "scale",
        "secrets",
        "shm_size",
        "stdin_open",
        "storage_opt",
        "tty",
        "working_dir",
    }
)
"""Keys of a service that give it no power."""

DRIVERS = (None, "bridge", "overlay")
"""Of networks whose ``internal`` means no route out."""

SHAPES: Mapping[str, type] = MappingProxyType(
    {
        "deploy": dict,
        "devices": list,
        "healthcheck": dict,
        "ports": list,
        "ulimits": dict,
        "volumes": list,
    }
)
"""What stands behind keys; engines refuse another shape, or make something of it."""

RUNTIMES = frozenset({"crun", "kata", "nvidia", "runc", "runsc"})

NO_WORDS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Service:
    """A service that is being read."""

    draft: Draft
    document: Document
    name: str
    value: dict[str, Any]
    volumes: dict[str, Any]

    def where(self, *path: str | int) -> str:
        return self.document.where("services", self.name, *path)


def read_compose(text: str, wanted: Deployment) -> tuple[Lockdown, ...]:
    """Return the facts of the agent's services: those of its name, image or label.

    Raises:
        DeployError: it cannot be read, or no service is the agent's.
    """
    documents = read_documents(text)
    if len(documents) != 1:
        raise DeployError(f"a compose file is one document; this has {len(documents)}")
    document = documents[0]
    services = mapping(at(document.value, "services"))
    if not services:
        raise DeployError("there are no services in it")
    ours = [name for name, value in services.items() if _is_ours(wanted, name, value)]
    chosen = choose(list(services), ours, list(services), wanted)
    return tuple(_read_service(document, name, services[name], wanted) for name in chosen)


def _is_ours(wanted: Deployment, name: str, value: Any) -> bool:
    image = at(value, "image")
    label = _pairs(at(value, "labels")).get(LABEL)
    return is_ours(wanted, name, None if image is None else shown(image), label)


def _read_service(document: Document, name: str, value: Any, wanted: Deployment) -> Lockdown:
    where = document.where("services", name)
    draft = Draft(name, "compose", where, networks=_networks(document))
    # Docker takes no such options for a folder of the machine: whoever has them is on podman.
    draft.takes_mount_options = "noexec" in ",".join(texts(at(value, "volumes")))
    if not isinstance(value, dict):
        raise DeployError(f"{where} should be a mapping")
    service = _Service(draft, document, name, value, mapping(at(document.value, "volumes")))
    if "image" in value:
        draft.say("image", shown(value["image"]), service.where("image"))
    _join(service)
    for key, content in value.items():
        if is_misfit(content, SHAPES.get(key, object)):
            draft.unknown(f"{key}, of another shape", service.where(key))
        elif key in READERS and content is not None:
            READERS[key](service, content, key)
        elif key not in HARMLESS | READERS.keys() and not _is_extension(key):
            draft.unknown(key, service.where(key))
    if at(document.value, "include") is not None:
        draft.unknown("include: what other files say", document.where("include"))
    return draft.finish(role_of(wanted, draft.values.get("command", ())), NO_WORDS)


def _is_extension(key: str) -> bool:
    return key.startswith("x-") and not key.startswith("x-podman")


def _pairs(value: Any) -> dict[str, str]:
    """Return what may be a mapping or a list of ``NAME=VALUE``."""
    if isinstance(value, dict):
        return {key: "" if content is None else shown(content) for key, content in value.items()}
    return dict(word.partition("=")[::2] for word in texts(value))


def _networks(document: Document) -> dict[str, Network]:
    found = {"default": Network.ORDINARY}
    for name, value in mapping(at(document.value, "networks")).items():
        if at(value, "external") not in (None, False):
            found[name] = Network.UNSEEN
        elif at(value, "internal") is True and at(value, "driver") in DRIVERS:
            found[name] = Network.INTERNAL
        else:
            found[name] = Network.ORDINARY
    return found


def _join(service: _Service) -> None:
    mode, networks = service.value.get("network_mode"), service.value.get("networks")
    if mode is not None:
        service.draft.network(shown(mode), service.where("network_mode"))
    names = list(networks) if isinstance(networks, dict) else texts(networks)
    for number_, name in enumerate(names):
        place = (name,) if isinstance(networks, dict) else (number_,)
        service.draft.network(name, service.where("networks", *place))
    if mode is None and not names:
        service.draft.network("default", service.where("networks"))


def _is_on(value: Any) -> bool:
    """Whatever is not off may be on."""
    return value not in (None, False)


def _flags(service: _Service, value: Any, key: str) -> None:
    attribute = {"privileged": "is_privileged", "read_only": "is_root_read_only"}[key]
    is_true = _is_on(value) if key == "privileged" else value is True
    service.draft.say(attribute, is_true, service.where(key))


def _user(service: _Service, value: Any, key: str) -> None:
    service.draft.user(shown(value), service.where(key))


def _groups(service: _Service, value: Any, key: str) -> None:
    for text in texts(value):
        service.draft.state("groups", text, service.where(key))


def _capabilities(service: _Service, value: Any, key: str) -> None:
    for text in texts(value):
        service.draft.capability(text, service.where(key), is_added=key == "cap_add")


def _security(service: _Service, value: Any, key: str) -> None:
    for position, text in enumerate(texts(value)):
        service.draft.security_opt(text, service.where(key, position))


def _namespace(service: _Service, value: Any, key: str) -> None:
    kind = key.removesuffix("_mode").replace("userns", "user")
    service.draft.namespace(kind, shown(value), service.where(key))


def _amount(service: _Service, value: Any, key: str) -> None:
    draft, where = service.draft, service.where(key)
    if key in {"mem_limit", "memswap_limit"}:
        attribute = "memory_bytes" if key == "mem_limit" else "swap_bytes"
        draft.memory(attribute, value, where)
    else:
        reader = {"cpus": draft.cpus, "pids_limit": draft.pids, "stop_grace_period": draft.stop}[
            key
        ]
        reader(value, where)


def _quota(service: _Service, value: Any, key: str) -> None:
    period = number(service.value.get("cpu_period", 100_000))
    quota = number(value)
    if quota is None or not period:
        service.draft.unknown(key, service.where(key))
    else:
        service.draft.cpus(max(quota, 0) / period, service.where(key))


def _ulimits(service: _Service, value: Any, key: str) -> None:
    for name, limit in mapping(value).items():
        hard = limit.get("hard") if isinstance(limit, dict) else limit
        service.draft.ulimit(name, hard, service.where(key, name))


def _deploy(service: _Service, value: Any, key: str) -> None:
    draft, limits = service.draft, mapping(at(value, "resources", "limits"))
    readers: dict[str, Callable[[Any, str], None]] = {
        "memory": lambda amount, where: draft.memory("memory_bytes", amount, where),
        "cpus": draft.cpus,
        "pids": draft.pids,
    }
    for name, reader in readers.items():
        if limits.get(name) is not None:
            reader(limits[name], service.where(key, "resources", "limits", name))
    devices = at(value, "resources", "reservations", "devices")
    for place, device in numbered(devices, "deploy.resources.reservations.devices"):
        _device_request(service, device, place)


def _device_request(service: _Service, device: dict[str, Any], place: str) -> None:
    where = service.document.where(
        "services", service.name, "deploy", label=f"services.{service.name}.{place}"
    )
    if "gpu" not in texts(device.get("capabilities")):
        service.draft.state("devices", shown(device.get("driver")), where)
        return
    ids = items(device.get("device_ids"))
    count = len(ids) or whole(device.get("count"))
    service.draft.say("gpus", -1 if count is None else count, where)


def _gpus(service: _Service, value: Any, key: str) -> None:
    if not isinstance(value, list):
        count = whole(value)
        service.draft.say("gpus", -1 if count is None else count, service.where(key))
        return
    for place, device in numbered(value, key):
        _device_request(service, {"capabilities": ["gpu"], **device}, place)


def _devices(service: _Service, value: Any, key: str) -> None:
    for position, item in enumerate(items(value)):
        text = shown(item.get("source")) if isinstance(item, dict) else shown(item)
        service.draft.state("devices", text, service.where(key, position))


def _sysctls(service: _Service, value: Any, key: str) -> None:
    for name, content in _pairs(value).items():
        service.draft.state("sysctls", f"{name}={content}", service.where(key))


def _environment(service: _Service, value: Any, key: str) -> None:
    if isinstance(value, dict):
        for name, content in value.items():
            text = name if content is None else f"{name}={shown(content)}"
            service.draft.variable(text, service.where(key, name))
    else:
        for position, text in enumerate(texts(value)):
            service.draft.variable(text, service.where(key, position))


def _unseen(service: _Service, _value: Any, key: str) -> None:
    service.draft.unknown(f"{key}: what another file says", service.where(key))


def _command(service: _Service, _value: Any, key: str) -> None:
    words: list[str] = []
    for name in ("entrypoint", "command"):
        value = service.value.get(name)
        if isinstance(value, str):
            try:
                words += shlex.split(value)
            except ValueError:
                words.append(value)
        else:
            words += texts(value)
    if service.value.get("entrypoint") in (None, [], "") and words:
        words = ["kos-agent", "run", *words]  # behind the image's entrypoint
    service.draft.say("command", tuple(words), service.where(key))


def _ports(service: _Service, value: Any, key: str) -> None:
    for position, item in enumerate(items(value)):
        where = service.where(key, position)
        if isinstance(item, dict):
            address, port = shown(item.get("host_ip") or ""), shown(item.get("published") or "")
            service.draft.publish(f"{address}:{port}:{shown(item.get('target'))}", where)
        else:
            service.draft.publish(shown(item), where)


def _volumes(service: _Service, value: Any, key: str) -> None:
    for position, item in enumerate(items(value)):
        where = service.where(key, position)
        if isinstance(item, dict):
            options = ["ro"] if item.get("read_only") is True else []
            kind = shown(item.get("type") or "volume")
            source, target = shown(item.get("source") or ""), shown(item.get("target"))
            _mount(service, (source, target, kind), options, where)
        else:
            parts = shown(item).split(":")
            if len(parts) in {2, 3} and parts[0] in service.volumes:
                options = parts[2].split(",") if len(parts) == 3 else []
                _mount(service, (parts[0], parts[1], "volume"), options, where)
            else:
                service.draft.volume(shown(item), where)


def _mount(service: _Service, place: tuple[str, str, str], options: list[str], where: str) -> None:
    """Put down a mount; a volume may stand for a folder of the machine."""
    source, target, kind = place
    drivers = mapping(at(service.volumes, source, "driver_opts"))
    if kind == "volume" and drivers:
        options = [*options, *shown(drivers.get("o") or "").split(",")]
        device = shown(drivers.get("device") or "")
        if device.startswith("/"):
            source, kind = device, "bind"
    service.draft.mount((source, target, kind), options, where)


def _tmpfs(service: _Service, value: Any, key: str) -> None:
    for text in texts(value):
        service.draft.tmpfs(text, service.where(key))


def _health(service: _Service, value: Any, key: str) -> None:
    test = texts(at(value, "test"))
    if _is_on(at(value, "disable")) or test[:1] == ["NONE"]:
        service.draft.state("health", "the image's check is switched off", service.where(key))


def _named(service: _Service, value: Any, key: str) -> None:
    harmless = {"stop_signal": {"SIGTERM", "TERM", "15"}, "runtime": RUNTIMES}[key]
    if shown(value) not in harmless:
        service.draft.unknown(f"{key} {shown(value)}", service.where(key))


def _nothing(_service: _Service, _value: Any, _key: str) -> None:
    """Read together with another key."""


READERS: Mapping[str, Callable[[_Service, Any, str], None]] = MappingProxyType(
    {
        "cap_add": _capabilities,
        "cap_drop": _capabilities,
        "cgroup": _namespace,
        "command": _command,
        "cpu_period": _nothing,
        "cpu_quota": _quota,
        "cpus": _amount,
        "deploy": _deploy,
        "devices": _devices,
        "entrypoint": _command,
        "env_file": _unseen,
        "environment": _environment,
        "extends": _unseen,
        "gpus": _gpus,
        "group_add": _groups,
        "healthcheck": _health,
        "ipc": _namespace,
        "mem_limit": _amount,
        "memswap_limit": _amount,
        "network_mode": _nothing,
        "networks": _nothing,
        "pid": _namespace,
        "pids_limit": _amount,
        "ports": _ports,
        "privileged": _flags,
        "read_only": _flags,
        "runtime": _named,
        "security_opt": _security,
        "stop_grace_period": _amount,
        "stop_signal": _named,
        "sysctls": _sysctls,
        "tmpfs": _tmpfs,
        "ulimits": _ulimits,
        "user": _user,
        "userns_mode": _namespace,
        "uts": _namespace,
        "volumes": _volumes,
    }
)
