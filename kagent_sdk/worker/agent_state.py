"""``agent.state``: there before the agent runs, of use while it does."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING

from kagent_sdk.context.key_turns import KeyTurns
from kagent_sdk.errors import StateError

if TYPE_CHECKING:
    from kagent_sdk.context.state import State
    from kagent_sdk.protocol.state import Answer
    from kagent_sdk.worker.state import StateRequests


class AgentState:
    """The agent's own way to the state (`kagent_sdk.context.state_access.StatePort`).

    Attributes:
        requests: those of the worker that serves the agent, from WELCOME on.
    """

    __slots__ = ("_state", "requests")

    def __init__(self) -> None:
        self.requests: StateRequests | None = None
        self._state: State | None = None

    @property
    def state(self) -> State:
        """What the author gets, made when it is first asked for."""
        if self._state is None:
            from kagent_sdk.context.state import State  # noqa: PLC0415
            from kagent_sdk.context.state_access import DirectAccess  # noqa: PLC0415

            self._state = State(DirectAccess(self))
        return self._state

    @property
    def turns(self) -> KeyTurns:
        """Those of all that change keys in this worker.

        Raises:
            StateError: the agent does not run yet.
        """
        return self._connected.turns

    def ask(self, payload: bytes) -> Future[Answer]:
        """Send a STATE frame; see `StateRequests.send`.

        Raises:
            StateError: the agent does not run yet.
        """
        return self._connected.send(None, payload)

    @property
    def _connected(self) -> StateRequests:
        if self.requests is None:
            raise StateError(
                "the agent does not run yet: use agent.state in a task, a loop or a hook, not at import"
            )
        return self.requests
