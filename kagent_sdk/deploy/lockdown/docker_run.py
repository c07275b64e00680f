"""Read a shell script with ``podman run`` or ``docker run`` in it. Pure.

Every flag is either read, or known to give no power, or put down as not understood.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kagent_sdk.deploy.deployment import Deployment
from kagent_sdk.deploy.lockdown.documents import MAX_BYTES
from kagent_sdk.deploy.lockdown.draft import Draft
from kagent_sdk.deploy.lockdown.facts import Lockdown, Network
from kagent_sdk.deploy.lockdown.quantities import number, whole
from kagent_sdk.deploy.lockdown.roles import LABEL, choose, is_ours, role_of
from kagent_sdk.deploy.lockdown.shell import Script, Word
from kagent_sdk.errors import DeployError

ENGINES = frozenset({"podman", "docker", "nerdctl"})

SHORT = MappingProxyType(
    {
        "-a": "--attach",
        "-c": "--cpu-shares",
        "-e": "--env",
        "-h": "--hostname",
        "-l": "--label",
        "-m": "--memory",
        "-p": "--publish",
        "-u": "--user",
        "-v": "--volume",
        "-w": "--workdir",
    }
)
"""Short flags with a value."""

SWITCHES = MappingProxyType(
    {"-d": "--detach", "-i": "--interactive", "-t": "--tty", "-P": "--publish-all", "-q": "--quiet"}
)
"""Short flags without one; they may stand together."""

BOOLEANS = frozenset(
    {
        "--detach",
        "--disable-content-trust",
        "--env-host",
        "--http-proxy",
        "--init",
        "--interactive",
        "--no-healthcheck",
        "--no-hostname",
        "--no-hosts",
        "--oom-kill-disable",
        "--privileged",
        "--publish-all",
        "--quiet",
        "--read-only",
        "--read-only-tmpfs",
        "--replace",
        "--rm",
        "--rmi",
        "--rootfs",
        "--sig-proxy",
        "--tls-verify",
        "--tty",
    }
)
"""Flags whose value, if there is one, stands behind an equals sign."""

HARMLESS = frozenset(
    {
        "--add-host",
        "--annotation",
        "--attach",
        "--authfile",
        "--blkio-weight",
        "--cidfile",
        "--conmon-pidfile",
        "--cpu-shares",
        "--cpuset-cpus",
        "--cpuset-mems",
        "--detach",
        "--detach-keys",
        "--disable-content-trust",
        "--dns",
        "--dns-option",
        "--dns-search",
        "--domainname",
        "--expose",
        "--health-interval",
        "--health-retries",
        "--health-start-interval",
        "--health-start-period",
        "--health-timeout",
        "--hostname",
        "--http-proxy",
        "--init",
        "--interactive",
        "--ip",
        "--ip6",
        "--label",
        "--label-file",
        "--link",
        "--log-driver",
        "--log-opt",
        "--mac-address",
        "--memory-reservation",
        "--memory-swappiness",
        "--name",
        "--network-alias",
        "--no-hostname",
        "--no-hosts",
        "--oom-score-adj",
        "--pidfile",
        "--platform",
        "--pull",
        "--quiet",
        "--replace",
        "--restart",
        "--rm",
        "--rmi",
        "--sdnotify",
        "--secret",
        "--shm-size",
        "--sig-proxy",
        "--storage-opt",
        "--tls-verify",
        "--tty",
        "--tz",
        "--umask",
        "--workdir",
    }
)
"""Flags that give a container no power."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of a command line; without a value it is a switch that is on."""

    name: str
    value: str | None
    line: int

    @property
    def is_on(self) -> bool:
        """Whether a switch is on."""
        return self.value is None or self.value.lower() in {"true", "1", "t"}


@dataclass(frozen=True, slots=True)
class Command:
    """A ``run``: engine, flags, image and the words behind it."""

    engine: str
    flags: tuple[Flag, ...]
    image: str
    words: tuple[str, ...]
    line: int


def read_docker_run(text: str, wanted: Deployment) -> tuple[Lockdown, ...]:
    """Return the facts of the agent's containers that a script starts.

    Raises:
        DeployError: it cannot be read, or starts no container of the agent.
    """
    if len(text) > MAX_BYTES:
        raise DeployError(f"over {MAX_BYTES} bytes: this is no command line")
    script, networks, commands = Script(text), dict[str, Network](), list[Command]()
    for words in script.commands():
        engine, rest = _engine(words)
        verbs = [word.text for word in rest[:2]]
        if verbs == ["network", "create"]:
            networks.update(_made_network(rest[2:]))
        elif verbs[:1] == ["container"] and verbs[1:] in (["run"], ["create"]):
            commands.append(_command(engine, rest[2:], wanted))
        elif verbs[:1] in (["run"], ["create"]):
            commands.append(_command(engine, rest[1:], wanted))
    if not commands:
        raise DeployError("there is no podman run or docker run in it")
    names = [_name(command) for command in commands]
    ours = [command for command in commands if _is_ours(wanted, command)]
    return tuple(
        _read_command(command, networks, wanted)
        for command in choose(commands, ours, names, wanted)
    )


def _engine(words: list[Word]) -> tuple[str, list[Word]]:
    """Return the engine that a command calls, and the words behind its own options."""
    for position, word in enumerate(words):
        engine = posixpath.basename(word.text)
        if engine in ENGINES:
            rest = words[position + 1 :]
            while rest and rest[0].text.startswith("-"):
                rest = rest[1:]
            return engine, rest
    return "", []


def _made_network(words: list[Word]) -> dict[str, Network]:
    texts = [word.text for word in words]
    is_internal = "--internal" in texts or "--internal=true" in texts
    names = [text for text in texts if not text.startswith("-")]
    kind = Network.INTERNAL if is_internal else Network.ORDINARY
    return {names[-1]: kind} if names else {}


def _command(engine: str, words: list[Word], wanted: Deployment) -> Command:
    line = words[0].line if words else 1
    flags, rest = split_flags(words, wanted.image)
    if not rest:
        raise DeployError(f"line {line}: there is no image behind run")
    image, *others = rest
    return Command(engine, flags, image.text, tuple(word.text for word in others), line)


def split_flags(words: list[Word], image: str = "") -> tuple[tuple[Flag, ...], list[Word]]:
    """Return the flags at the beginning of words, and the words behind them.

    Args:
        words: behind ``run``.
        image: of the agent; a flag that is not known does not take it for its value.
    """
    flags: list[Flag] = []
    rest = list(words)
    while rest and (rest[0].text.startswith("-") or rest[0].text.startswith(("$", "`"))):
        word = rest.pop(0)
        if word.text == "--":
            break
        flag, takes_next = _flag(word)
        if takes_next and rest and rest[0].text != image:
            is_known = flag.name in READERS.keys() | HARMLESS
            if is_known or not rest[0].text.startswith("-"):
                flag = Flag(flag.name, rest.pop(0).text, flag.line)
        flags.append(flag)
    if rest or not flags or not flags[-1].name.startswith(("$", "`")):
        return tuple(flags), rest
    # What the image is, only running would tell.
    last = flags.pop()
    return tuple(flags), [Word(last.name, last.line)]


def _flag(word: Word) -> tuple[Flag, bool]:
    """Return a flag, and whether its value is the next word."""
    text = word.text
    if text.startswith("--"):
        name, equals, value = text.partition("=")
        name = "--network" if name == "--net" else name
        takes_next = not equals and name not in BOOLEANS
        return Flag(name, value if equals else None, word.line), takes_next
    if text[:2] in SHORT:
        value = text[2:].removeprefix("=")
        return Flag(SHORT[text[:2]], value or None, word.line), not value
    if text.startswith("-") and len(text) > 2 and text[:2] in SWITCHES:
        # -itv …: switches together, and perhaps one with a value.
        return (
            _flag(Word(f"-{text[2:]}", word.line))
            if text[1] != "P"
            else (
                Flag("--publish-all", None, word.line),
                False,
            )
        )
    if text in SWITCHES:
        return Flag(SWITCHES[text], None, word.line), False
    return Flag(text, None, word.line), text.startswith("-")


def _name(command: Command) -> str:
    for flag in command.flags:
        if flag.name == "--name" and flag.value:
            return flag.value
    return command.image


def _is_ours(wanted: Deployment, command: Command) -> bool:
    labels = [flag.value or "" for flag in command.flags if flag.name == "--label"]
    label = next((text.partition("=")[2] for text in labels if text.startswith(f"{LABEL}=")), None)
    return is_ours(wanted, _name(command), command.image, label)


def _read_command(command: Command, networks: dict[str, Network], wanted: Deployment) -> Lockdown:
    where = f"{command.engine} run (line {command.line})"
    draft = Draft(_name(command), "docker-run", where, networks=networks)
    # Docker takes no such options; those of the file system itself hold.
    draft.takes_mount_options = command.engine == "podman"
    draft.say("image", command.image, where)
    for flag in command.flags:
        read_flag(draft, flag, f"{flag.name} (line {flag.line})")
    if "networks" not in draft.lists and not any(
        one.text.startswith("network=") for one in draft.lists.get("namespaces", [])
    ):
        draft.network("default", where)
    is_plain = command.engine == "podman" and "has_implicit_scratch" not in draft.values
    if is_plain:
        draft.say("has_implicit_scratch", value=True, where=where)
    entry = draft.values.get("command", ("kos-agent", "run"))  # else the image's own
    words = (*entry, *command.words)
    draft.say("command", words, draft.places.get("command", where))
    return draft.finish(role_of(wanted, words), frozenset())


def read_flag(draft: Draft, flag: Flag, where: str) -> None:
    """Put down what one flag says."""
    if flag.name in READERS:
        READERS[flag.name](draft, flag, where)
    elif flag.name not in HARMLESS:
        # Never the value: it may be a secret.
        draft.unknown(flag.name, where)


Reader = Callable[[Draft, Flag, str], None]


def _each(read: Callable[[Draft, str, str], None]) -> Reader:
    """Return a reader of a flag that needs a value."""

    def reader(draft: Draft, flag: Flag, where: str) -> None:
        if flag.value is None:
            draft.unknown(f"{flag.name} without a value", where)
        else:
            read(draft, flag.value, where)

    return reader


def _switch(attribute: str, *, is_safe: bool) -> Reader:
    """Return a reader of a switch; a value that is neither true nor false counts as the weaker one."""

    def reader(draft: Draft, flag: Flag, where: str) -> None:
        is_off = flag.value is not None and flag.value.lower() in {"false", "0", "f"}
        is_on = flag.is_on if is_safe else not is_off
        draft.say(attribute, is_on, where)

    return reader


def _listed(attribute: str, prefix: str = "") -> Reader:
    return _each(lambda draft, value, where: draft.state(attribute, f"{prefix}{value}", where))


def _namespace(kind: str) -> Reader:
    return _each(lambda draft, value, where: draft.namespace(kind, value, where))


def _capability(*, is_added: bool) -> Reader:
    return _each(lambda draft, value, where: draft.capability(value, where, is_added=is_added))


def _ulimit(draft: Draft, value: str, where: str) -> None:
    name, equals, limit = value.partition("=")
    if equals:
        draft.ulimit(name, limit, where)
    else:
        draft.unknown(f"ulimit {value}", where)


def _gpus(draft: Draft, value: str, where: str) -> None:
    text = value.strip("\"'")
    count = whole(text.removeprefix("count="))
    if count is None and text.startswith("device="):
        count = len(text.split(","))
    draft.say("gpus", -1 if count is None else count, where)


def _quota(draft: Draft, value: str, where: str) -> None:
    quota = number(value)
    if quota is None:
        draft.unknown(f"cpu-quota {value}", where)
    else:
        # The period is a tenth of a second unless --cpu-period says otherwise, which is not understood.
        draft.cpus(max(quota, 0) / 100_000, where)


def _entrypoint(draft: Draft, value: str, where: str) -> None:
    draft.say("command", (value,) if value else (), where)


def _unseen(draft: Draft, flag: Flag, where: str) -> None:
    draft.unknown(f"{flag.name}: what is said elsewhere", where)


def _publish_all(draft: Draft, flag: Flag, where: str) -> None:
    if flag.is_on:
        draft.publish("0", where)


def _health(draft: Draft, flag: Flag, where: str) -> None:
    if flag.name == "--no-healthcheck" or (flag.value or "").lower() == "none":
        draft.state("health", "the image's check is switched off", where)


def _stop_signal(draft: Draft, value: str, where: str) -> None:
    if value not in {"SIGTERM", "TERM", "15"}:
        draft.unknown(f"stop signal {value}", where)


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "--cap-add": _capability(is_added=True),
        "--cap-drop": _capability(is_added=False),
        "--cgroupns": _namespace("cgroup"),
        "--cpu-quota": _each(_quota),
        "--cpus": _each(Draft.cpus),
        "--device": _listed("devices"),
        "--entrypoint": _each(_entrypoint),
        "--env": _each(Draft.variable),
        "--env-file": _unseen,
        "--gpus": _each(_gpus),
        "--group-add": _listed("groups"),
        "--health-cmd": _health,
        "--ipc": _namespace("ipc"),
        "--memory": _each(lambda draft, value, where: draft.memory("memory_bytes", value, where)),
        "--memory-swap": _each(
            lambda draft, value, where: draft.memory("swap_bytes", value, where)
        ),
        "--mount": _each(Draft.long_mount),
        "--network": _each(Draft.network),
        "--no-healthcheck": _health,
        "--pid": _namespace("pid"),
        "--pids-limit": _each(Draft.pids),
        "--privileged": _switch("is_privileged", is_safe=False),
        "--publish": _each(Draft.publish),
        "--publish-all": _publish_all,
        "--read-only": _switch("is_root_read_only", is_safe=True),
        "--read-only-tmpfs": _switch("has_implicit_scratch", is_safe=False),
        "--security-opt": _each(Draft.security_opt),
        "--stop-signal": _each(_stop_signal),
        "--stop-timeout": _each(Draft.stop),
        "--sysctl": _listed("sysctls"),
        "--tmpfs": _each(Draft.tmpfs),
        "--ulimit": _each(_ulimit),
        "--user": _each(Draft.user),
        "--userns": _namespace("user"),
        "--uts": _namespace("uts"),
        "--volume": _each(Draft.volume),
    }
)
