"""How a worker introduces itself, becomes ready, and shows its pulse."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pydantic import ValidationError

from kagent_sdk.config.models import MAX_THREADS, AgentConfig
from kagent_sdk.errors import ProtocolError
from kagent_sdk.host.engine import Engine
from kagent_sdk.host.event_flow import EVENT_WINDOW
from kagent_sdk.host.health import AwakeClock
from kagent_sdk.host.logs.pump import LogPump
from kagent_sdk.host.own_calls import FindLink, OwnCalls, no_link
from kagent_sdk.host.place import Place
from kagent_sdk.host.state_frames import StateFrames
from kagent_sdk.host.state_keeper import StateKeeper
from kagent_sdk.host.vault_keeper import VaultKeeper
from kagent_sdk.host.worker_connection import FrameHandler, WorkerConnection
from kagent_sdk.host.worker_frames import WorkerFrames
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.manifest import (
    PROTOCOL_VERSION,
    CapabilityManifest,
    Heartbeat,
    Hello,
    Welcome,
)

MAX_HELLO_BYTES = 8 * 1024 * 1024
"""Room for the schemas of a thousand capabilities; what else a worker sends is an output at most."""

MAX_HEARTBEAT_BYTES = 256 * 1024
_Message = TypeVar("_Message", Hello, Heartbeat)


@dataclass(frozen=True, slots=True)
class Keepers:
    """Who has what the workers may know, and where what they ask for goes.

    Attributes:
        vault: the secrets.
        state: what they read and write.
        link: the way of their calls to other agents.
    """

    vault: VaultKeeper
    state: StateKeeper
    link: FindLink = no_link


class Reception:
    """Makes the connections of workers, and takes the frames that are about the worker itself.

    Args:
        config: the agent's configuration.
        keepers: have the secrets and the state.
        engine: given the tasks' frames, and told of workers that take tasks.
        pump: told of workers that come.
        clock: of all stamps.
        on_change: called when a worker became ready, recovered or was lost.

    Attributes:
        clock: the pool stamps with it too.
        is_current: its workers get the tasks; else they are on trial.
        capabilities: by name, as the last of its workers said hello.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        keepers: Keepers,
        engine: Engine,
        pump: LogPump,
        clock: AwakeClock,
        on_change: Callable[[], None],
    ) -> None:
        self._config = config
        self._keeper = keepers.vault
        self._shared = self._exposed()
        self._behind: set[WorkerConnection] = set()
        self._engine = engine
        self._pump = pump
        self.clock = clock
        self.on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._frames = WorkerFrames(
            engine,
            max_output_bytes=config.tasks.max_output_bytes,
            keeper=keepers.vault if config.secrets.guard_results else None,
        )
        self._own_calls = OwnCalls(engine, config.name or "", keepers.link)
        self._state_frames = StateFrames(keepers.state)
        self._is_closed = False
        self.is_current = True
        self.capabilities: dict[str, CapabilityManifest] = {}

    def take_over(self, places: Sequence[Place]) -> None:
        """Give the tasks to the workers of these places, all of them ready, from now on."""
        self.is_current = True
        connections = [place.connection for place in places if place.connection is not None]
        self._engine.succeed(connections, self.capabilities)

    def close(self) -> None:
        """Let no further worker take tasks."""
        self._is_closed = True

    def share_secrets(self, places: Sequence[Place]) -> None:
        """Tell the workers of rotated secrets; one that does not read learns it when it does."""
        exposed = self._exposed()
        if json.dumps(exposed) == json.dumps(self._shared):
            return
        self._shared = exposed
        for place in places:
            # One without HELLO gets them with its WELCOME.
            if place.connection is None or place.hello is None:
                continue
            if place.connection.is_paused:
                self._behind.add(place.connection)
            else:
                self._send_secrets(place.connection)

    def _exposed(self) -> dict[str, object]:
        return self._keeper.vault.known(self._config.secrets.expose)

    def _send_secrets(self, connection: WorkerConnection) -> None:
        connection.send(Kind.SECRETS, 0, json.dumps(self._shared).encode())

    def _on_room(self, connection: WorkerConnection) -> None:
        if connection in self._behind:
            self._behind.discard(connection)
            self._send_secrets(connection)
        self._own_calls.on_room(connection)
        self._engine.dispatcher.settle()

    def connect(
        self, place: Place, on_lost: Callable[[ProtocolError | None], None]
    ) -> WorkerConnection:
        """Return the protocol for the worker of a place, to be given its end of the socket."""
        handlers: dict[int, FrameHandler] = {
            **self._frames.handlers(),
            **self._state_frames.handlers(),
            **self._own_calls.handlers(),
            Kind.HELLO: lambda _connection, _number, payload: self._on_hello(place, payload),
            Kind.READY: lambda _connection, _number, _payload: self._on_ready(place),
            Kind.HEARTBEAT: lambda _connection, _number, payload: self._on_beat(place, payload),
        }
        place.connection = connection = WorkerConnection(
            limit_bytes=max(MAX_HELLO_BYTES, self._config.tasks.max_output_bytes),
            places=self._config.tasks.max_concurrency,
            handlers=handlers,
            on_room=lambda: self._on_room(connection),
            on_lost=lambda _connection, error: on_lost(error),
        )
        return connection

    def lose(self, place: Place, how: str) -> None:
        """Bring the tasks of a dead worker to an end, or back into the queue."""
        if place.connection is not None:
            self._own_calls.forget(place.connection)
            self._state_frames.forget(place.connection)
            self._behind.discard(place.connection)
            self._engine.lose(place.connection, how)

    def _on_hello(self, place: Place, payload: bytes) -> None:
        if place.hello is not None or len(payload) > MAX_HELLO_BYTES:
            raise ProtocolError("unexpected HELLO frame")
        hello = _parse(Hello, payload)
        if hello.protocol != PROTOCOL_VERSION:
            raise ProtocolError(f"worker speaks protocol {hello.protocol}, not {PROTOCOL_VERSION}")
        manifests = {manifest.name: manifest for manifest in hello.capabilities}
        if len(manifests) != len(hello.capabilities):
            raise ProtocolError("two capabilities of the same name")
        connection = place.connection
        assert connection is not None
        place.hello = hello
        connection.capabilities = {
            manifest.name: index for index, manifest in enumerate(hello.capabilities)
        }
        self.capabilities = manifests
        if self.is_current:
            self._engine.declare(manifests)
        connection.send(Kind.WELCOME, 0, self._welcome(place).model_dump_json().encode())

    def _welcome(self, place: Place) -> Welcome:
        tasks = self._config.tasks
        return Welcome(
            agent_name=self._config.name or "agent",
            agent_version=self._config.version,
            worker_index=place.index,
            log_level=self._config.logs.level,
            heartbeat_s=self._config.worker.heartbeat_s,
            threads=self._config.worker.threads or min(tasks.max_concurrency, MAX_THREADS),
            max_output_bytes=tasks.max_output_bytes,
            event_window=EVENT_WINDOW,
            secrets=self._exposed(),
        )

    def _on_ready(self, place: Place) -> None:
        connection = place.connection
        if place.hello is None or place.is_ready or connection is None or place.pulse is None:
            raise ProtocolError("unexpected READY frame")
        now_s = self.clock.read(self._loop.time())
        place.pulse = replace(place.pulse, ready_at_s=now_s)
        place.was_stuck = False
        if not self._is_closed:
            connection.is_open = True
            if self.is_current:
                self._engine.dispatcher.connections.append(connection)
        self._pump.log("info", "worker_ready", worker=place.index)
        self.on_change()
        self._engine.dispatcher.settle()

    def _on_beat(self, place: Place, payload: bytes) -> None:
        if place.pulse is None or len(payload) > MAX_HEARTBEAT_BYTES:
            raise ProtocolError("unexpected HEARTBEAT frame")
        now_s = self.clock.read(self._loop.time())
        last_s = place.pulse.beat_at_s
        place.pulse = replace(place.pulse, beat_at_s=now_s)
        if place.stack is not None or (place.connection and place.connection.is_stalled):
            self.recover(place)
        if last_s is None or now_s - last_s >= self._config.worker.heartbeat_s / 4:
            place.heartbeat = _parse(Heartbeat, payload)

    def recover(self, place: Place) -> None:
        """Give tasks again to a worker that was silent and has shown a sign of life."""
        place.stack = None
        if place.connection is not None and place.connection.is_stalled:
            place.connection.is_stalled = False
            self._pump.log("info", "worker_recovered", worker=place.index)
            self.on_change()
            self._engine.dispatcher.settle()


def _parse(model: type[_Message], payload: bytes) -> _Message:
    try:
        return model.model_validate_json(payload)
    except ValidationError as exc:
        # Names the place of the fault, not the worker's bytes.
        where = ".".join(str(part) for part in exc.errors(include_input=False)[0]["loc"])
        raise ProtocolError(f"malformed {model.__name__} frame: {where}") from None
