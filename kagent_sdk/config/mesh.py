"""mesh.yaml: which agents `kos-agent up` runs, how many of each, and the orchestrator that they have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import to_json

from kagent_sdk.config.draft import MAX_PROBLEMS, Source
from kagent_sdk.config.environment import PREFIX, SEPARATOR, variable_of
from kagent_sdk.config.explanation import explain
from kagent_sdk.config.keys import KeyPath, known_keys, nearest, section_of
from kagent_sdk.config.loading import read_config, read_text
from kagent_sdk.config.orchestrator import Labels
from kagent_sdk.config.section import Section
from kagent_sdk.errors import ConfigError

MESH_FILE = "mesh.yaml"
AGENT_NAME = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
MAX_AGENTS = 100
MAX_REPLICAS = 64

SET_BY_MESH = frozenset(
    {
        ("name",),
        ("http",),
        ("http", "host"),
        ("http", "port"),
        ("http", "auth"),
        ("http", "tls"),
        ("orchestrator", "url"),
        ("orchestrator", "delivery"),
        ("orchestrator", "labels"),
        ("orchestrator", "address"),
    }
)
"""Keys of config.yaml that the mesh sets for its agents; ``env`` may not."""

_AGENTS = ("agents",)
_ORCHESTRATOR = ("orchestrator",)
_SUBJECT = "should be "


class MeshAgent(Section):
    """One agent of a mesh."""

    path: str = Field(min_length=1, description="The agent's folder; relative to mesh.yaml.")
    replicas: int = Field(1, ge=0, le=MAX_REPLICAS, description="How many of it run.")
    driver: Literal["process", "container"] = Field(
        "process",
        description="process: a host on this machine; container: in the image of kos-agent build.",
    )
    delivery: Literal["push", "pull"] = Field(
        "push", description="push: the orchestrator calls the agent; pull: the agent asks."
    )
    labels: Labels = Field({}, description="Who calls may choose agents by them.")
    env: dict[str, str | int | float | bool] = Field(
        {},
        max_length=100,
        description="AGENT_<SECTION>__<KEY>: overrides of the agent's config.yaml.",
    )
    network: str | None = Field(
        None, description="With container: the engine's network in which it finds the orchestrator."
    )
    image: str | None = Field(None, description="With container: another image than NAME:VERSION.")
    snapshot_every_s: float | None = Field(
        None, ge=1, description="How often each replica makes a snapshot; unset: never."
    )
    start_timeout_s: float = Field(
        60,
        gt=0,
        le=3600,
        description="In an update a replica that is not ready by then has failed.",
    )
    unhealthy_after_s: float = Field(
        30, gt=0, le=3600, description="/healthz that fails for so long: the replica is replaced."
    )
    trial: bool = Field(
        default=True,
        description="Before an update replaces anything, run the new release once, without the link.",
    )

    @field_validator("env")
    @classmethod
    def _be_overrides(
        cls, env: dict[str, str | int | float | bool]
    ) -> dict[str, str | int | float | bool]:
        for name in env:
            _check_variable(name)
        return env

    @model_validator(mode="after")
    def _be_reachable(self) -> Self:
        if self.driver == "container" and self.network is None:
            raise ValueError(
                "driver: container needs network: a network of the engine in which the agent finds the "
                "orchestrator"
            )
        if self.driver != "container" and (self.network or self.image):
            raise ValueError("network and image are for driver: container")
        return self

    def variables(self) -> dict[str, str]:
        """Return ``env`` as the environment has it."""
        return {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in self.env.items()
        }


class MeshOrchestrator(Section):
    """The orchestrator of a mesh."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    lease_s: float = Field(
        15, gt=0, le=3600, description="An agent that is silent for so long counts as lost."
    )
    heartbeat_s: float = Field(3, gt=0, le=300, description="How often agents say that they live.")
    return_s: float = Field(
        120,
        ge=1,
        le=86_400,
        description="How long a task that must not be run twice waits for a lost agent that may have it.",
    )
    token_file: str | None = Field(
        None, description="File with the agents' token; unset: one is made. Relative to mesh.yaml."
    )
    operator_token_file: str | None = Field(
        None, description="File with the operators' token; unset: local programs are operators."
    )
    link: str | None = Field(
        None, description="nats://HOST:PORT: agents link to that, not to this orchestrator."
    )
    address: str | None = Field(
        None,
        pattern=r"^https?://[A-Za-z0-9.:\[\]-]+$",
        description="URL at which agents in containers find it; its own port where there is none.",
    )
    grace_s: float = Field(
        40, gt=0, le=3600, description="From the signal to the exit, all agents included."
    )

    @field_validator("link")
    @classmethod
    def _be_nats(cls, link: str | None) -> str | None:
        if link is None:
            return None
        if not _is_nats(link):
            raise ValueError("should be a URL such as nats://HOST:PORT, without a user")
        return link.rstrip("/")


class MeshConfig(Section):
    """The whole of mesh.yaml."""

    model_config = ConfigDict(defer_build=False)

    agents: Annotated[
        dict[Annotated[str, Field(pattern=AGENT_NAME)], MeshAgent],
        Field(min_length=1, max_length=MAX_AGENTS),
    ] = Field(description="By name.")
    orchestrator: MeshOrchestrator = MeshOrchestrator.model_construct()

    @model_validator(mode="after")
    def _let_containers_in(self) -> Self:
        orchestrator = self.orchestrator
        in_containers = [name for name, one in self.agents.items() if one.driver == "container"]
        if in_containers and orchestrator.address is None and orchestrator.link is None:
            raise ValueError(
                f"{in_containers[0]} is in a container, where 127.0.0.1 is another place: set "
                "orchestrator.host and orchestrator.address, such as 0.0.0.0 and http://10.89.0.1"
            )
        return self


@dataclass(frozen=True, slots=True)
class Mesh:
    """A mesh and where it is.

    Attributes:
        config: what it is.
        directory: its folder; relative paths begin there, and ``.kos-mesh`` is in it.
    """

    config: MeshConfig
    directory: Path

    def path_of(self, agent: str) -> Path:
        """Return the folder of the author of an agent."""
        return self.directory / self.config.agents[agent].path


def read_mesh(path: Path) -> Mesh:
    """Read a mesh.yaml.

    Raises:
        ConfigError: something is wrong; the message has a line for everything that is.
    """
    from kagent_sdk.config.document import parse_document  # noqa: PLC0415 - PyYAML takes 30 ms

    label = path.name
    try:
        document = parse_document(read_text(path))
    except FileNotFoundError:
        raise ConfigError(f"{label}: there is no such file in {path.absolute().parent}") from None
    except OSError as exc:
        raise ConfigError(f"{label}: cannot be read: {exc.strerror}") from exc
    except ConfigError as exc:
        raise ConfigError(f"{label}: {exc}") from None
    lines = document.lines
    found = [
        (fault.line, Source(0, fault.line, fault.column, label).describe(fault.path, fault.text))
        for fault in document.faults
    ]
    config = None
    if not document.faults:
        tree = {} if document.value is None else document.value
        config, problems = _validate(_without_empty(tree))
        found += [
            (line, Source(0, line, 0, label).describe(where, text))
            for where, text in problems
            for line in [_line_of(where, lines)]
        ]
    mesh = None if config is None else Mesh(config, path.absolute().parent)
    if mesh is not None:
        found += [
            (line, Source(0, line, 0, label).describe(where, text))
            for where, text in _missing_folders(mesh)
            for line in [_line_of(where, lines)]
        ]
    if mesh is None or found:
        texts = [text for _, text in sorted(found)]
        rest = len(texts) - MAX_PROBLEMS
        raise ConfigError("\n".join(texts[:MAX_PROBLEMS] + [f"and {rest} more"] * (rest > 0)))
    return mesh


def make_mesh(folders: Iterable[Path], environ: Mapping[str, str], directory: Path) -> Mesh:
    """Return the mesh of the agents in these folders, each once, under the names of their config.yaml.

    Args:
        folders: of agents.
        environ: with the overrides of their configuration.
        directory: of the mesh.

    Raises:
        ConfigError: a configuration is wrong, or two agents have one name.
    """
    agents: dict[str, MeshAgent] = {}
    for folder in folders:
        try:
            name = read_config(folder, environ=environ).config.name or folder.resolve().name
        except ConfigError as exc:
            lines = str(exc).splitlines()
            raise ConfigError("\n".join(f"{folder}: {line}" for line in lines)) from None
        if name in agents:
            raise ConfigError(
                f"{folder}: there is an agent '{name}' already, in {agents[name].path}; "
                "give one another name: in its config.yaml, or write a mesh.yaml"
            )
        agents[name] = MeshAgent(path=str(folder.absolute()))
    return Mesh(MeshConfig(agents=agents), directory.absolute())


def _validate(tree: Any) -> tuple[MeshConfig | None, list[tuple[KeyPath, str]]]:
    if not isinstance(tree, dict):
        return None, [((), "should be a mapping of keys: agents, and orchestrator")]
    try:
        raw = to_json(tree, inf_nan_mode="constants")
        return MeshConfig.model_validate_json(raw, strict=True), []
    except ValidationError as exc:
        return None, [_explain(error) for error in exc.errors(include_url=False)]


def _explain(error: Any) -> tuple[KeyPath, str]:
    path = tuple(part for part in error["loc"] if part != "[key]")
    if path[:1] == _AGENTS and len(path) > 3 and path[2] == "env":
        return path[:4], "should be text, a number, or true or false"
    if error["type"] == "extra_forbidden":
        return path, f"unknown key; {_suggest(path)}"
    if path == (*_ORCHESTRATOR, "link"):
        return path, _SUBJECT + str(error["msg"]).partition(_SUBJECT)[
            2
        ]  # its value may hold a password
    if error["type"] == "string_pattern_mismatch" and error["loc"][-1] == "[key]":
        what = "label" if "labels" in path[2:3] else "name"
        return path, f"is no {what}: letters, digits and . _ - between them, 63 at most"
    if path == _AGENTS and (error["input"] is None or error["type"] in {"missing", "too_short"}):
        return path, "is missing: name one agent at least, such as `hello: {path: ./hello}`"
    return path, explain(error, ("mesh", *path))


def _suggest(path: KeyPath) -> str:
    word, inside = str(path[-1]), path[:-1]
    sections: dict[str, type[Section]] = {
        "": MeshConfig,
        "agents": MeshAgent,
        "orchestrator": MeshOrchestrator,
    }
    here = sections[str(inside[0]) if inside else ""]
    near = nearest(word, here.model_fields)
    if near is not None:
        return f"did you mean {near}?"
    for name, section in sections.items():
        if word in section.model_fields and section is not here:
            return f"it belongs below {name or 'the top'}"
    return f"the keys here are {', '.join(here.model_fields)}"


def _check_variable(name: str) -> None:
    keys = known_keys()
    path = tuple(name.removeprefix(PREFIX).lower().split(SEPARATOR))
    if not name.startswith(PREFIX) or path not in keys:
        names = [variable_of(key) for key in keys if section_of(keys[key]) is None]
        near = nearest(name.upper(), names)
        way_out = f"did you mean {near}?" if near else "see `kos-agent config schema`"
        raise ValueError(f"{name} overrides no key of config.yaml; {way_out}")
    if path in SET_BY_MESH or path[0] == "name":
        raise ValueError(f"{name} is set by the mesh itself; leave it out")


def _is_nats(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in {"nats", "tls"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_whole and parts.username is None and not parts.query and not parts.fragment


def _missing_folders(mesh: Mesh) -> Iterable[tuple[KeyPath, str]]:
    for name in mesh.config.agents:
        folder = mesh.path_of(name)
        if not folder.is_dir():
            yield (*_AGENTS, name, "path"), f"there is no folder {folder}"


def _without_empty(tree: Any) -> Any:
    """Take ``orchestrator:`` with nothing below it as no section, as people mean it."""
    if isinstance(tree, dict) and tree.get("orchestrator", ...) is None:
        return {key: value for key, value in tree.items() if key != "orchestrator"}
    return tree


def _line_of(path: KeyPath, lines: Mapping[KeyPath, int]) -> int:
    return next((lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in lines), 0)
