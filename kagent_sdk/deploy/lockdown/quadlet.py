"""Read a unit of podman's Quadlet: ``NAME.container``. Pure.

The keys are those of podman-systemd.unit(5). Networks and volumes are units of their own,
which are read where they lie beside it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kagent_sdk.deploy.deployment import Deployment
from kagent_sdk.deploy.lockdown.docker_run import Flag, read_flag, split_flags
from kagent_sdk.deploy.lockdown.documents import MAX_BYTES
from kagent_sdk.deploy.lockdown.draft import Draft
from kagent_sdk.deploy.lockdown.facts import Lockdown, Network
from kagent_sdk.deploy.lockdown.roles import role_of
from kagent_sdk.deploy.lockdown.shell import Word
from kagent_sdk.errors import DeployError

Beside = Callable[[str], str | None]
"""Returns the text of a file beside the one that is read; None where there is none."""

MAX_LINES = 20_000

_SECTION = re.compile(r"^\[(?P<name>[^\]]+)\]$")
_ENTRY = re.compile(r"^(?P<key>[A-Za-z0-9-]+)\s*=\s*(?P<value>.*)$", re.DOTALL)

FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "AddDevice": "--device",
        "CgroupsMode": "--cgroups",
        "Entrypoint": "--entrypoint",
        "EnvironmentFile": "--env-file",
        "GroupAdd": "--group-add",
        "HealthCmd": "--health-cmd",
        "IP": "--ip",
        "IP6": "--ip6",
        "Memory": "--memory",
        "Mount": "--mount",
        "PidsLimit": "--pids-limit",
        "PublishPort": "--publish",
        "ReadOnly": "--read-only",
        "ReadOnlyTmpfs": "--read-only-tmpfs",
        "StopSignal": "--stop-signal",
        "StopTimeout": "--stop-timeout",
        "Tmpfs": "--tmpfs",
        "Ulimit": "--ulimit",
        "User": "--user",
        "UserNS": "--userns",
        "Volume": "--volume",
    }
)
"""Keys that stand for one flag of podman run."""

HARMLESS = frozenset(
    {
        "AddHost",
        "Annotation",
        "AutoUpdate",
        "ContainerName",
        "DNS",
        "DNSOption",
        "DNSSearch",
        "ExposeHostPort",
        "HealthInterval",
        "HealthLogDestination",
        "HealthMaxLogCount",
        "HealthMaxLogSize",
        "HealthRetries",
        "HealthStartPeriod",
        "HealthStartupInterval",
        "HealthStartupRetries",
        "HealthStartupSuccess",
        "HealthStartupTimeout",
        "HealthTimeout",
        "HostName",
        "Label",
        "LogDriver",
        "LogOpt",
        "NetworkAlias",
        "Notify",
        "Pull",
        "ReloadCmd",
        "ReloadSignal",
        "Retry",
        "RetryDelay",
        "RunInit",
        "Secret",
        "ServiceName",
        "ShmSize",
        "StartWithPod",
        "Timezone",
        "WorkingDir",
    }
)

TRUE = frozenset({"1", "yes", "true", "on", "t", "y"})
"""What systemd takes for true (systemd.syntax(7))."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One ``KEY=VALUE`` of a unit."""

    section: str
    key: str
    value: str
    line: int

    @property
    def where(self) -> str:
        """Return where it stands."""
        return f"{self.section}.{self.key} (line {self.line})"


def read_quadlet(text: str, wanted: Deployment, beside: Beside) -> tuple[Lockdown, ...]:
    """Return the facts of the container that a unit describes.

    Args:
        text: of the unit.
        wanted: whose it is.
        beside: of the ``.network`` units that it names.

    Raises:
        DeployError: it cannot be read, or is no ``.container``.
    """
    entries = read_entries(text)
    if not any(entry.section == "Container" for entry in entries):
        raise DeployError("there is no [Container] in it")
    return (_read_container(entries, wanted, beside),)


def read_entries(text: str) -> list[Entry]:
    """Return what a unit says, with lines that go on joined (systemd.syntax(7)).

    Raises:
        DeployError: a line is neither a section, an entry nor a comment.
    """
    if len(text) > MAX_BYTES or text.count("\n") > MAX_LINES:
        raise DeployError(f"over {MAX_BYTES} bytes or {MAX_LINES} lines: this is no unit")
    entries: list[Entry] = []
    section, held, began = "", "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if line.startswith(("#", ";")) or (not line and not held):
            continue
        began = began if held else number
        held += line
        if held.endswith("\\"):
            held = held[:-1] + " "
            continue
        whole, held = held.strip(), ""
        if found := _SECTION.match(whole):
            section = found["name"]
        elif found := _ENTRY.match(whole):
            entries.append(Entry(section, found["key"], found["value"].strip(), began))
        else:
            raise DeployError(f"line {began}: neither a [section] nor KEY=VALUE")
    return entries


def _leads(unit: str, beside: Beside) -> Network:
    """Return where the network of a ``.network`` unit leads."""
    text = None if "/" in unit else beside(unit)
    if text is None:
        return Network.UNSEEN
    for entry in reversed(read_entries(text)):
        if (entry.section, entry.key) == ("Network", "Internal"):
            return Network.INTERNAL if entry.value.lower() in TRUE else Network.ORDINARY
    return Network.ORDINARY


def _read_container(entries: list[Entry], wanted: Deployment, beside: Beside) -> Lockdown:
    first = next(entry for entry in entries if entry.section == "Container")
    draft = Draft(wanted.name, "quadlet", f"Container (line {first.line})")
    draft.say("has_implicit_scratch", value=True, where=draft.where)
    last = _effective(entries)
    for entry in last:
        if entry.section == "Container":
            _read_entry(draft, entry, beside)
        elif entry.section not in {"Unit", "Service", "Install", "Quadlet"}:
            draft.unknown(f"[{entry.section}]", entry.where)
    if not any(entry.key in {"Network", "Pod"} for entry in last):
        draft.network("default", draft.where)
    entry_words = draft.values.get("command", ("kos-agent", "run"))
    words = (*entry_words, *_exec(last))
    draft.say("command", words, draft.places.get("command", draft.where))
    return draft.finish(role_of(wanted, words), frozenset())


def _effective(entries: list[Entry]) -> list[Entry]:
    """Return what counts: an empty value takes back what the key had before."""
    kept: list[Entry] = []
    for entry in entries:
        if entry.value:
            kept.append(entry)
        else:
            kept = [one for one in kept if (one.section, one.key) != (entry.section, entry.key)]
    return kept


def _exec(entries: list[Entry]) -> list[str]:
    values = [entry for entry in entries if (entry.section, entry.key) == ("Container", "Exec")]
    return _words(values[-1]) if values else []


def _words(entry: Entry) -> list[str]:
    try:
        return shlex.split(entry.value)
    except ValueError:
        raise DeployError(f"{entry.where}: a quote is never closed") from None


def _read_entry(draft: Draft, entry: Entry, beside: Beside) -> None:
    if entry.key in FLAGS:
        _read_flag(draft, entry)
    elif entry.key == "Network":
        _read_network(draft, entry, beside)
    elif entry.key in READERS:
        READERS[entry.key](draft, entry)
    elif entry.key not in HARMLESS | {"Exec"}:
        draft.unknown(entry.key, entry.where)


def _read_flag(draft: Draft, entry: Entry) -> None:
    value = entry.value
    if entry.key in {"ReadOnly", "ReadOnlyTmpfs"}:
        value = "true" if value.lower() in TRUE else "false"
    if entry.key == "Volume":
        value = _without_unit(value)
    read_flag(draft, Flag(FLAGS[entry.key], value, entry.line), entry.where)


def _without_unit(value: str) -> str:
    """Return a volume's words with the name that ``NAME.volume`` stands for."""
    source, colon, rest = value.partition(":")
    return f"{source.removesuffix('.volume')}{colon}{rest}"


def _read_network(draft: Draft, entry: Entry, beside: Beside) -> None:
    unit, _, _ = entry.value.partition(":")
    if unit.endswith(".network"):
        draft.networks[unit] = _leads(unit, beside)
    draft.network(entry.value, entry.where)


def _image(draft: Draft, entry: Entry) -> None:
    draft.say("image", entry.value, entry.where)


def _group(draft: Draft, entry: Entry) -> None:
    draft.say("group", entry.value, entry.where)


def _capability(draft: Draft, entry: Entry) -> None:
    is_added = entry.key == "AddCapability"
    draft.capability(entry.value.replace("all", "ALL"), entry.where, is_added=is_added)


def _new_privileges(draft: Draft, entry: Entry) -> None:
    draft.say("forbids_new_privileges", entry.value.lower() in TRUE, entry.where)


def _seccomp(draft: Draft, entry: Entry) -> None:
    draft.say("seccomp", entry.value, entry.where)


def _unconfined(draft: Draft, entry: Entry) -> None:
    is_on = entry.value.lower() in TRUE
    if entry.key == "Unmask" or (entry.key == "SecurityLabelDisable" and is_on):
        draft.state("unconfined", f"{entry.key}={entry.value}", entry.where)
    elif entry.key == "SecurityLabelType":
        draft.security_opt(f"label=type:{entry.value}", entry.where)
    elif entry.key == "AppArmor":
        draft.security_opt(f"apparmor={entry.value}", entry.where)


def _sysctl(draft: Draft, entry: Entry) -> None:
    for word in _words(entry):
        draft.state("sysctls", word, entry.where)


def _environment(draft: Draft, entry: Entry) -> None:
    for word in _words(entry):
        draft.variable(word, entry.where)


def _podman_args(draft: Draft, entry: Entry) -> None:
    flags, rest = split_flags([Word(text, entry.line) for text in _words(entry)])
    for flag in flags:
        read_flag(draft, flag, f"{entry.where}: {flag.name}")
    for word in rest:
        draft.unknown(word.text, entry.where)


READERS: Mapping[str, Callable[[Draft, Entry], None]] = MappingProxyType(
    {
        "AddCapability": _capability,
        "AppArmor": _unconfined,
        "DropCapability": _capability,
        "Environment": _environment,
        "Group": _group,
        "Image": _image,
        "NoNewPrivileges": _new_privileges,
        "PodmanArgs": _podman_args,
        "SeccompProfile": _seccomp,
        "SecurityLabelDisable": _unconfined,
        "SecurityLabelFileType": _unconfined,
        "SecurityLabelLevel": _unconfined,
        "SecurityLabelType": _unconfined,
        "Sysctl": _sysctl,
        "Unmask": _unconfined,
    }
)
