"""Facts of a container while they are read, from the words that container engines take. Pure.

What stands there twice counts as engines have it: the last word of one value, all words of a list. What
cannot be read is put down as not understood, and the fact stays as if nothing was said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kagent_sdk.deploy.lockdown.data import MAX_TEXT
from kagent_sdk.deploy.lockdown.facts import Joined, Lockdown, Mount, Network, Port, Role, Stated
from kagent_sdk.deploy.lockdown.quantities import engine_bytes, number, seconds, whole

NETWORKS = {"none": Network.NONE, "host": Network.HOST}
ORDINARY = frozenset({"bridge", "default", "pasta", "slirp4netns", "private", "podman"})
"""Networks of the engines' own, that lead out."""

_OPTIONS = ("exec", "suid", "dev")
_MASKS = frozenset({"unmask", "systempaths", "proc-opts"})
_READ_ONLY = frozenset({"ro", "readonly", "readonly=true", "ro=true", "readonly=1", "ro=1"})
_SHARED = ("host", "container:", "service:", "ns:", "pod:")


@dataclass(slots=True)
class Draft:
    """What is known so far; `finish` makes facts of it.

    Attributes:
        name, where: of the container.
        kind: of manifest.
        takes_mount_options: volumes are mounted ``noexec,nosuid,nodev`` where that is said.
        networks: what the file says of networks by their names.
        values: attributes of `Lockdown` by their names.
        places: where they stand.
        lists: the same for those that have many entries.
    """

    name: str
    kind: str
    where: str
    takes_mount_options: bool = True
    networks: dict[str, Network] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[Any]] = field(default_factory=dict)
    ulimits: dict[str, int] = field(default_factory=dict)

    def finish(self, role: Role, cannot: frozenset[str]) -> Lockdown:
        """Return the facts."""
        facts: dict[str, Any] = {name: tuple(entries) for name, entries in self.lists.items()}
        return Lockdown(
            name=self.name,
            kind=self.kind,
            where=self.where,
            role=role,
            cannot=cannot,
            ulimits=MappingProxyType(dict(self.ulimits)),
            places=MappingProxyType(dict(self.places)),
            **facts,
            **self.values,
        )

    def say(self, attribute: str, value: Any, where: str) -> None:
        """Put down an attribute that has one value."""
        self.values[attribute] = value
        self.places[attribute] = where

    def add(self, attribute: str, entry: Any) -> None:
        """Put down one of an attribute's entries."""
        self.lists.setdefault(attribute, []).append(entry)

    def state(self, attribute: str, text: str, where: str) -> None:
        """Put down one of an attribute's entries, as text."""
        self.add(attribute, Stated(text[:MAX_TEXT], where))

    def unknown(self, text: str, where: str) -> None:
        """Put down that something is not understood."""
        self.state("unknown", text, where)

    def user(self, text: str, where: str) -> None:
        """Read ``USER[:GROUP]``."""
        user, _, group = text.partition(":")
        self.say("user", user or None, where)
        if group:
            self.say("group", group, where)

    def capability(self, text: str, where: str, *, is_added: bool) -> None:
        """Read the name of a capability, or ``ALL``; several may stand behind commas or blanks."""
        for word in text.replace(",", " ").split():
            name = word.upper().removeprefix("CAP_")
            if is_added:
                self.state("added", name, where)
            else:
                self.add("dropped", name)
                self.places["dropped"] = where

    def security_opt(self, text: str, where: str) -> None:
        """Read one word of ``--security-opt``; the separator is ``=`` or ``:``."""
        cut = min((at for at in (text.find("="), text.find(":")) if at >= 0), default=len(text))
        name, value = text[:cut].strip(), text[cut + 1 :].strip()
        if name == "no-new-privileges":
            self.say("forbids_new_privileges", value in {"", "true", "1"}, where)
        elif name == "seccomp":
            # Engines differ on which of two words counts.
            if self.values.get("seccomp") != "unconfined":
                self.say("seccomp", value or "default", where)
        elif name == "apparmor":
            if value == "unconfined":
                self.state("unconfined", text, where)
        elif name == "label":
            if value in {"disable", "nested"} or value.startswith(("type:spc", "user:", "role:")):
                self.state("unconfined", text, where)
        elif name in _MASKS:
            self.state("unconfined", text, where)
        elif name not in {"mask", "credentialspec"}:
            self.unknown(text, where)

    def memory(self, attribute: str, value: Any, where: str) -> None:
        """Read bytes; 0 and -1 are no limit."""
        if whole(value) in {0, -1}:
            self.say(attribute, -1 if attribute == "swap_bytes" else None, where)
        elif (found := engine_bytes(value)) is not None:
            self.say(attribute, found, where)
        else:
            self.unknown(f"{attribute} {value}", where)

    def cpus(self, value: Any, where: str) -> None:
        """Read cores; 0 is no limit."""
        found = number(value)
        if found is None or found < 0:
            self.unknown(f"cpus {value}", where)
        else:
            self.say("cpu_cores", found or None, where)

    def pids(self, value: Any, where: str) -> None:
        """Read a number of processes; 0 and below is no limit."""
        found = whole(value)
        if found is None:
            self.unknown(f"pids {value}", where)
        else:
            self.say("pids", found if found > 0 else None, where)

    def ulimit(self, name: str, value: Any, where: str) -> None:
        """Read a limit, ``SOFT[:HARD]``; what counts is the hard one: the soft can be raised to it."""
        hard = str(value).rpartition(":")[2]
        found = -1 if hard == "unlimited" else whole(hard)
        if found is None:
            self.unknown(f"ulimit {name}={value}", where)
        else:
            self.ulimits[name] = found
            self.places[f"ulimit {name}"] = where

    def stop(self, value: Any, where: str) -> None:
        """Read how long the container has to stop; -1 is for ever."""
        found = float("inf") if whole(value) == -1 else seconds(value)
        if found is None:
            self.unknown(f"stop timeout {value}", where)
        else:
            self.say("stop_s", found, where)

    def namespace(self, kind: str, value: str, where: str) -> None:
        """Read whose namespace of a kind the container has."""
        if value.startswith(_SHARED):
            self.state("namespaces", f"{kind}={value}", where)

    def network(self, text: str, where: str) -> None:
        """Read a network's name; options may follow a colon."""
        name = text.partition(":")[0]
        if text.startswith(("container:", "ns:", "service:")):
            self.state("namespaces", f"network={text}", where)
        elif name in NETWORKS:
            self.add("networks", Joined(name, NETWORKS[name], where))
        elif name in self.networks:
            self.add("networks", Joined(name, self.networks[name], where))
        else:
            leads = Network.ORDINARY if name in ORDINARY else Network.UNSEEN
            self.add("networks", Joined(name, leads, where))

    def volume(self, text: str, where: str) -> None:
        """Read ``SOURCE:TARGET[:OPTIONS]``."""
        parts = text.split(":")
        if len(parts) == 1:
            parts = ["", parts[0]]
        if len(parts) > 3:
            self.unknown(f"volume {text}", where)
            return
        options = parts[2].split(",") if len(parts) == 3 else []
        kind = "bind" if parts[0].startswith(("/", ".", "~", "$", "%")) else "volume"
        self.mount((parts[0], parts[1], kind), options, where)

    def mount(self, place: tuple[str, str, str], options: list[str], where: str) -> None:
        """Put down a mount.

        Args:
            place: source, target and kind.
            options: of the mount, as engines spell them.
            where: in the file.
        """
        source, target, kind = place
        words = [option.strip() for option in options]
        is_writable = "rw" in words or not _READ_ONLY & set(words)
        is_told = self.takes_mount_options and kind != "tmpfs"
        allows = tuple(
            word
            for word in _OPTIONS
            if word in words or (is_told and f"no{word}" not in words and is_writable)
        )
        target = "/" + target.strip("/") if target.startswith("/") else target
        self.add("mounts", Mount(source, target, kind, is_writable, allows, where))

    def long_mount(self, text: str, where: str) -> None:
        """Read ``type=bind,source=…,target=…,…``."""
        words = [word for word in text.split(",") if word]
        pairs = {key: value for key, _, value in (word.partition("=") for word in words)}
        kind = pairs.get("type", "volume")
        source = pairs.get("source") or pairs.get("src") or ""
        target = pairs.get("target") or pairs.get("destination") or pairs.get("dst") or ""
        if kind not in {"bind", "volume", "tmpfs"} or not target:
            self.unknown(f"mount {text}", where)
            return
        self.mount((source, target, kind), words, where)

    def tmpfs(self, text: str, where: str) -> None:
        """Read ``TARGET[:OPTIONS]``; engines mount it noexec, nosuid and nodev by themselves."""
        target, _, options = text.partition(":")
        self.mount(("", target, "tmpfs"), options.split(","), where)

    def publish(self, text: str, where: str) -> None:
        """Read ``[[ADDRESS:][PORT]:]TARGET[/PROTOCOL]``."""
        head, _, target = text.rpartition(":")
        address, _, port = head.rpartition(":")
        if not target:
            self.unknown(f"port {text}", where)
        self.add("ports", Port(address.strip("[]"), port, target.partition("/")[0], where))

    def variable(self, text: str, where: str) -> None:
        """Read ``NAME=VALUE``; without a value it is that of whoever starts the container."""
        self.state("environment", text, where)
