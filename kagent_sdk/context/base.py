"""What the contexts of tasks and loops have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

from kagent_sdk.context.exposed_secrets import Secrets
from kagent_sdk.context.ports import CallPort, PendingCall
from kagent_sdk.protocol.log_tags import encode_tag

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from kagent_sdk.context.state import State

AnyPort = TypeVar("AnyPort", bound=CallPort)


class Context(ABC, Generic[AnyPort]):
    """A task or a loop's run, as its function sees it.

    Args:
        port: whom it hands every request to.
    """

    __slots__ = ("_log", "_log_tag", "_port")

    _log_tag: bytes
    """Made when the task or loop first prints: most never do."""

    def __init__(self, port: AnyPort) -> None:
        self._port = port
        self._log: FilteringBoundLogger | None = None

    @property
    def log(self) -> FilteringBoundLogger:
        """A structlog logger that puts `log_keys` on every line."""
        if self._log is None:
            # structlog costs 50 ms to import: only an author who logs with it pays.
            import structlog  # noqa: PLC0415

            self._log = structlog.get_logger().bind(**self.log_keys)
        return self._log

    @property
    @abstractmethod
    def log_keys(self) -> dict[str, str | int]:
        """What every line has in the log, for a logger that you set up yourself."""

    @property
    def log_tag(self) -> bytes:
        """The same as the streams put it before a printed line; the runtime's business."""
        try:
            return self._log_tag
        except AttributeError:
            self._log_tag = encode_tag(self.log_keys)
            return self._log_tag

    def is_of(self, port: object) -> bool:
        """Tell whether ``port`` has made this context; the runtime's business."""
        return port is self._port

    @property
    def secrets(self) -> Secrets:
        """The secrets that the configuration exposes to this agent."""
        return self._port.secrets

    @property
    def state(self) -> State:
        """The agent's durable memory; see `kagent_sdk.State`.

        In a task it is the task's transaction: its changes are committed with the task's result, or not
        at all. In a loop each call commits by itself, and `State.transaction` puts several together.
        """
        return self._port.state

    def call(
        self, agent: str, capability: str, input: object, timeout_s: float | None = None
    ) -> PendingCall:
        """Send a task to another agent's capability and get its output.

        ``await ctx.call(…)`` in async code, ``ctx.call(…).result()`` in a sync function.

        Args:
            agent: the other agent's name.
            capability: the name of its capability.
            input: a model or anything that JSON can hold.
            timeout_s: how long the other task may take.

        Raises:
            CallError: the other task failed (raised where the answer is taken).
        """
        return self._port.call(agent, capability, input, timeout_s)
