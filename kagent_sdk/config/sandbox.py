"""The section ``sandbox`` of config.yaml: what the worker may do."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from kagent_sdk.config.section import MEBIBYTE, Section

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_IPV6 = re.compile(r"\[([0-9a-f:.]{2,45})\]")

WRITABLE = ("runtime/cache", "runtime/data")
"""What of the agent's folder the worker may write, whatever the policy says."""

CONTROLS = (
    "user",
    "descriptors",
    "no_new_privileges",
    "capabilities",
    "files",
    "tcp_ports",
    "scopes",
    "syscalls",
    "limits",
    "no_core_dumps",
    "namespaces",
    "cgroup",
    "egress",
    "host_memory",
    "read_only_root",
    "vault",
)
"""The names of `kagent_sdk.sandbox.controls.Control`, which is none of this layer's imports."""


def parse_destination(text: str) -> tuple[str, int]:
    """Return host and port of an entry of ``sandbox.network.allow``, the host in lower case.

    The host is a name, an address, an IPv6 address in brackets (returned without them), or ``*.``
    and a name. The port is never left out: an allow-list that says a host means all of its ports
    only by accident.

    Raises:
        ValueError: it is none.
    """
    host, colon, digits = text.strip().lower().rpartition(":")
    if not colon or not digits.isascii() or not digits.isdigit():
        raise ValueError(f'"{text}" has no port; write host:port, such as api.example.com:443')
    port = int(digits) if len(digits) <= 5 else 0
    if not 1 <= port <= 65535:
        raise ValueError(f'"{text}" has a port outside 1 to 65535')
    if host in {"", "*"}:
        raise ValueError(
            f'"{text}" would allow every host; name them, or set sandbox.network.external: true'
        )
    if (v6 := _IPV6.fullmatch(host)) is not None:
        return v6[1], port
    name = host.removeprefix("*.")
    if len(name) > 253 or _NAME.fullmatch(name) is None:
        raise ValueError(f'"{text}" is no host and port, such as api.example.com:443')
    if host != name and "." not in name and name not in {"internal", "local", "lan", "test"}:
        raise ValueError(f'"{text}" would allow a whole top-level domain; name one below it')
    return host, port


def _be_destination(text: str) -> str:
    host, port = parse_destination(text)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _be_path(text: str) -> str:
    path = PurePosixPath(text)
    if not text or "\0" in text or ".." in path.parts:
        raise ValueError(
            f'"{text}" should be a path without "..", absolute or in the agent\'s folder'
        )
    if any(character in text for character in "*?["):
        raise ValueError(f'"{text}" is a pattern; paths of the sandbox are files and folders')
    return str(path)


def _be_control(text: str) -> str:
    if text in CONTROLS:
        return text
    # difflib is slow to import, and a right configuration never asks.
    from difflib import get_close_matches  # noqa: PLC0415

    near = get_close_matches(text.lower().replace("-", "_"), CONTROLS, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"they are {', '.join(CONTROLS)}"
    raise ValueError(f'"{text}" is no control of the sandbox; {hint}')


Path = Annotated[str, AfterValidator(_be_path)]
Where = Annotated[str, AfterValidator(_be_destination)]
ControlName = Annotated[
    str, AfterValidator(_be_control), Field(json_schema_extra={"enum": [*CONTROLS]})
]


class InjectConfig(Section):
    """A header that the host adds to requests for one destination, from the vault."""

    to: Where = Field(description="Host and port, such as api.anthropic.com:443; no wildcard.")
    header: str = Field(
        pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$", description="The header, such as x-api-key."
    )
    secret: str = Field(min_length=1, description="Key of the vault; it need not be exposed.")
    prefix: str = Field("", max_length=100, description='Before the secret, such as "Bearer ".')
    tls: bool = Field(default=True, description="Speak HTTPS with the destination.")

    @field_validator("to")
    @classmethod
    def _name_one(cls, to: str) -> str:
        if to.startswith("*."):
            raise ValueError(f'"{to}" is a pattern; a secret goes to one named host')
        return to


class SandboxNetworkConfig(Section):
    """What the worker may do on the network."""

    external: bool = Field(
        default=False, description="Connect anywhere, without the proxy and its allow-list."
    )
    allow: tuple[Where, ...] = Field(
        (),
        max_length=1000,
        description='Where the proxy connects to: "api.example.com:443", "*.internal:8443".',
    )
    inject: tuple[InjectConfig, ...] = Field(
        (), max_length=100, description="Headers with secrets that the host adds for the worker."
    )
    upstream: Where | None = Field(
        None,
        description="Another egress proxy, host and port: what is not of this site is reached by it.",
    )
    listen: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        (), max_length=100, description="TCP ports that the worker may listen on."
    )
    unix_sockets: bool | None = Field(
        None,
        description="Sockets of the file system; unset: with isolation bwrap, and for a "
        "worker.command that notifies.",
    )

    @field_validator("upstream")
    @classmethod
    def _name_the_proxy(cls, upstream: str | None) -> str | None:
        if upstream is not None and upstream.startswith("*."):
            raise ValueError(f'"{upstream}" is a pattern; a proxy has one name')
        return upstream

    @model_validator(mode="after")
    def _allow_what_is_injected(self) -> Self:
        for entry in self.inject:
            if entry.to not in self.allow:
                raise ValueError(f'inject is for "{entry.to}", which is not in allow')
        return self


class SandboxLimitsConfig(Section):
    """How much the worker may use; null leaves a limit as it is."""

    cpu: float | None = Field(1, gt=0, le=4096, description="Cores.")
    memory_bytes: int | None = Field(
        512 * MEBIBYTE, ge=16 * MEBIBYTE, description="Data of a process; with a cgroup, of all."
    )
    processes: int | None = Field(
        128, ge=1, le=1_000_000, description="Processes and threads of all workers."
    )
    open_files: int | None = Field(
        1024, ge=32, le=1_048_576, description="Descriptors of a process."
    )
    file_bytes: int | None = Field(None, ge=4096, description="The largest file.")


class SandboxConfig(Section):
    """What the worker may do; enforced before the first import of the author's code."""

    # YAML 1.1 reads a plain `off` as false.
    mode: Annotated[
        Literal["enforce", "report", "off"],
        BeforeValidator(lambda value: "off" if value is False else value),
    ] = Field(
        "enforce",
        description="enforce: a control that cannot be applied is an error; report: it is a finding "
        "of the audit; off: nothing is applied.",
    )
    require: tuple[ControlName, ...] = Field(
        (),
        max_length=len(CONTROLS),
        description="Controls without which the agent does not start (kos-agent doctor).",
    )
    read: tuple[Path, ...] = Field(
        (), max_length=1000, description="Files and folders that may be read, besides the defaults."
    )
    write: tuple[Path, ...] = Field(
        (),
        max_length=1000,
        description="Files and folders that may be written, besides runtime/cache and runtime/data.",
    )
    execute: tuple[Path, ...] = Field(
        (), max_length=1000, description="Programs, and folders of them, besides the defaults."
    )
    network: SandboxNetworkConfig = SandboxNetworkConfig.model_construct()
    limits: SandboxLimitsConfig = SandboxLimitsConfig.model_construct()
