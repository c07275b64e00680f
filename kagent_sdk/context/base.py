"""What the contexts of tasks and loops have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from kagent_sdk.context.exposed_secrets import Secrets
from kagent_sdk.context.ports import CallPort, PendingCall, PendingItems
from kagent_sdk.context.requests import make_request
from kagent_sdk.protocol.log_tags import encode_tag

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from kagent_sdk.context.state import State

AnyPort = TypeVar("AnyPort", bound=CallPort)
Output = TypeVar("Output")


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

    @overload
    def call(
        self,
        target: str,
        input: object = ...,
        /,
        *,
        output: type[Output],
        timeout_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        id: str | None = None,
    ) -> PendingCall[Output]: ...

    @overload
    def call(
        self,
        target: str,
        input: object = ...,
        /,
        *,
        output: object = None,
        timeout_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        id: str | None = None,
    ) -> PendingCall[Any]: ...

    @overload
    def call(
        self,
        agent: str,
        capability: str,
        input: object,
        /,
        *,
        output: type[Output],
        timeout_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        id: str | None = None,
    ) -> PendingCall[Output]: ...

    @overload
    def call(
        self,
        agent: str,
        capability: str,
        input: object,
        /,
        *,
        output: object = None,
        timeout_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        id: str | None = None,
    ) -> PendingCall[Any]: ...

    def call(
        self,
        target: str,
        /,
        *rest: object,
        output: object = None,
        timeout_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        id: str | None = None,
    ) -> PendingCall[Any]:
        """Send a task to a capability, of this agent or of another one, and get its output.

        ``await ctx.call("agent/capability", input)`` in async code, ``….result()`` in a sync
        function. The first argument may be a capability alone, for any agent that offers it (this
        one, if it does and no labels are asked for); ``call("agent", "capability", input)`` is the
        same as with a slash. The task is sent at once. Cancelling this task, or the wait, cancels it;
        it never gets more time than this task has left.

        Args:
            target: ``agent/capability``, or a capability.
            rest: the input, a model or anything that JSON can hold; an empty object if not given.
            output: a model or any other type that pydantic knows, for a typed output.
            timeout_s: how long the other task may take.
            labels: all of them must be the other agent's.
            id: of the other task: the same id with the same input is the same task, so that another
                attempt of this task does not have it done again. A new task if not given.

        Raises:
            CallError: the other task failed, or its output is another one than ``output`` says
                (``invalid_output``); raised where the answer is taken.
            TypeError, ValueError: the call itself is malformed.
        """
        return self._port.call(
            make_request(target, rest, timeout_s=timeout_s, labels=labels, id=id, model=output)
        )

    @overload
    def stream(
        self,
        target: str,
        input: object = ...,
        /,
        *,
        item: type[Output],
        timeout_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        id: str | None = None,
    ) -> PendingItems[Output]: ...

    @overload
    def stream(
        self,
        target: str,
        input: object = ...,
        /,
        *,
        item: object = None,
        timeout_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        id: str | None = None,
    ) -> PendingItems[Any]: ...

    @overload
    def stream(
        self,
        agent: str,
        capability: str,
        input: object,
        /,
        *,
        item: object = None,
        timeout_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        id: str | None = None,
    ) -> PendingItems[Any]: ...

    def stream(
        self,
        target: str,
        /,
        *rest: object,
        item: object = None,
        timeout_s: float | None = None,
        labels: Mapping[str, str] | None = None,
        id: str | None = None,
    ) -> PendingItems[Any]:
        """Send a task as `call` does, and get what it yields or emits, as it comes.

        ``async for item in ctx.stream("agent/capability", input)`` in async code, a plain ``for``
        in a sync function. A slow reader slows the other task down. Leaving the loop early cancels
        that task. When that task is run again, its items come again.

        Args:
            target: as of `call`.
            rest: as of `call`.
            item: a model or any other type that pydantic knows, for typed items.
            timeout_s: as of `call`.
            labels: as of `call`.
            id: as of `call`.

        Raises:
            CallError: the other task failed, an item does not fit (``invalid_output``), or items
                were lost on the way (``items_lost``); raised where the next item is taken.
            TypeError, ValueError: the call itself is malformed.
        """
        return self._port.stream(
            make_request(target, rest, timeout_s=timeout_s, labels=labels, id=id, model=item)
        )
