"""What comes from the host, and where it goes."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Callable, Sequence

from pydantic import ValidationError
from pydantic_core import from_json

from kagent_sdk.capability import Capability
from kagent_sdk.errors import ProtocolError
from kagent_sdk.protocol.frames import Kind
from kagent_sdk.protocol.manifest import Welcome
from kagent_sdk.protocol.messages import COUNT, SECONDS, decode_run
from kagent_sdk.worker.connection import Connection
from kagent_sdk.worker.execution import Execution, execution_type
from kagent_sdk.worker.services import Services, make_services

RUN = int(Kind.RUN)


class Inbox:
    """Take the host's frames: start tasks, hand on what is meant for them, note WELCOME and STOP.

    Args:
        capabilities: in the order of the manifest, which the RUN frames' indices refer to.

    Attributes:
        connection: to be connected by the owner.
        welcome: done when the host has said WELCOME.
        services: there from then on.
        retire: done when the host has said RETIRE: another worker takes over from this one.
        stop: done when the host has said STOP; the seconds that stopping may take.
        on_secrets: called when the secrets have changed, once the owner has set it.
    """

    def __init__(self, capabilities: Sequence[Capability], loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._runners: list[tuple[Capability, type[Execution]]] = [
            (capability, execution_type(capability)) for capability in capabilities
        ]
        self._handlers: dict[int, Callable[[int, bytes], None]] = {
            Kind.WELCOME: self._on_welcome,
            Kind.CANCEL: self._on_cancel,
            Kind.INTERRUPT: self._on_interrupt,
            Kind.ACK: self._on_ack,
            Kind.ANSWER: self._on_answer,
            Kind.CALL_ITEM: self._on_call_item,
            Kind.STATE_ANSWER: self._on_state_answer,
            Kind.STOP: self._on_stop,
            Kind.SECRETS: self._on_secrets,
            Kind.RETIRE: self._on_retire,
        }
        self.connection = Connection(loop, self._on_frame)
        self.services: Services | None = None
        self.welcome: asyncio.Future[Welcome] = loop.create_future()
        self.retire: asyncio.Future[None] = loop.create_future()
        self.stop: asyncio.Future[float] = loop.create_future()
        self.on_secrets: Callable[[], None] | None = None

    def _on_frame(self, kind: int, number: int, payload: bytes) -> None:
        if kind == RUN:
            self._on_run(number, payload)
        else:
            self._handlers[kind](number, payload)

    def _on_run(self, number: int, payload: bytes) -> None:
        services = self._ready_services
        run = decode_run(payload)
        if run.capability_index >= len(self._runners):
            raise ProtocolError(f"RUN names capability {run.capability_index}, which is not there")
        capability, execution = self._runners[run.capability_index]
        services.running[number] = task = execution(services, number, capability, run)
        task.start()

    def _on_welcome(self, number: int, payload: bytes) -> None:
        del number
        if self.services is not None:
            raise ProtocolError("WELCOME came twice")
        try:
            welcome = Welcome.model_validate_json(payload)
        except ValidationError:
            # Its text quotes the input, which holds the secrets.
            raise ProtocolError("malformed WELCOME frame") from None
        self.services = make_services(welcome, self._loop, self.connection)
        self.welcome.set_result(welcome)

    def _on_cancel(self, number: int, payload: bytes) -> None:
        # A task that is not there has been answered in the meantime: here and below.
        task = self._ready_services.running.get(number)
        if task is not None:
            task.cancel(payload.decode(errors="replace"))

    def _on_interrupt(self, number: int, payload: bytes) -> None:
        del payload
        task = self._ready_services.running.get(number)
        if task is not None:
            task.interrupt()

    def _on_ack(self, number: int, payload: bytes) -> None:
        task = self._ready_services.running.get(number)
        if task is not None:
            task.acknowledge(int(_unpack(COUNT, payload, "ACK")))

    def _on_answer(self, number: int, payload: bytes) -> None:
        self._ready_services.calls.answer(number, payload)

    def _on_call_item(self, number: int, payload: bytes) -> None:
        self._ready_services.calls.item(number, payload)

    def _on_state_answer(self, number: int, payload: bytes) -> None:
        self._ready_services.state.answer(number, payload)

    def _on_stop(self, number: int, payload: bytes) -> None:
        del number
        seconds = _unpack(SECONDS, payload, "STOP")
        if math.isnan(seconds):
            raise ProtocolError("malformed STOP frame: NaN seconds")
        if not self.stop.done():
            self.stop.set_result(max(0.0, seconds))

    def _on_secrets(self, number: int, payload: bytes) -> None:
        del number
        try:
            values = from_json(payload)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            # Without a cause: it may quote the payload.
            raise ProtocolError("malformed SECRETS frame")
        self._ready_services.secrets.replace(values)
        if self.on_secrets is not None:
            self.on_secrets()

    def _on_retire(self, number: int, payload: bytes) -> None:
        del number, payload
        if not self.retire.done():
            self.retire.set_result(None)

    @property
    def _ready_services(self) -> Services:
        if self.services is None:
            raise ProtocolError("a frame came before WELCOME")
        return self.services


def _unpack(form: struct.Struct, payload: bytes, name: str) -> float:
    try:
        (value,) = form.unpack(payload)
    except struct.error as exc:
        raise ProtocolError(f"malformed {name} frame: {exc}") from exc
    return float(value)
