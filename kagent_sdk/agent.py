"""What the author touches: `Agent` and its decorators.

::

    agent = Agent()

    @agent.capability
    async def greet(name: str) -> str:
        return f"Hello, {name}!"

    if __name__ == "__main__":
        agent.run()
"""

from __future__ import annotations

import os
import sys
from asyncio import get_running_loop
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from kagent_sdk.capability import Capability, declare
from kagent_sdk.capability.signature import locate
from kagent_sdk.errors import DeclarationError, StartupError
from kagent_sdk.protocol.manifest import MAX_CAPABILITIES, MAX_LOOPS
from kagent_sdk.worker.agent_state import AgentState
from kagent_sdk.worker.declarations import check_hook, check_secrets_hook, declare_loop
from kagent_sdk.worker.parts import AgentParts, Hook, LoopPart, SecretsHook

if TYPE_CHECKING:
    from kagent_sdk.context.state import State

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])
OnDisconnect = Literal["cancel", "detach"]

MAX_TEXT_CHARS = 100
"""Of name and version, as in `kagent_sdk.protocol.manifest.Hello`."""

DEFAULT_ENTRYPOINT = "entrypoint.py"
ENTRYPOINT_VARIABLE = "AGENT_ENTRYPOINT"
"""Overrides ``entrypoint`` of config.yaml, as every ``AGENT_*`` variable overrides a key."""

GUARD = '`if __name__ == "__main__": agent.run()`'


class Agent:
    """An agent: what it can do, what it does by itself, how it starts and stops.

    Every decorator returns the function as it is, so that it stays an ordinary function.

    Args:
        name: the agent's name; that of config.yaml if not given.
        version: the agent's version; that of config.yaml if not given.

    Raises:
        DeclarationError: name or version is not a string of 1 to 100 characters.
    """

    def __init__(self, name: str | None = None, version: str | None = None) -> None:
        self.name = _check_text("name", name)
        self.version = _check_text("version", version)
        self._capabilities: dict[str, Capability] = {}
        self._loops: dict[str, LoopPart] = {}
        self._on_startup: list[Hook] = []
        self._on_shutdown: list[Hook] = []
        self._on_secrets_changed: list[SecretsHook] = []
        self._state = AgentState()
        self._has_run = False

    def __repr__(self) -> str:
        return (
            f"<Agent {self.name or 'unnamed'}: {', '.join(self._capabilities) or 'no capability'}>"
        )

    @property
    def capabilities(self) -> Mapping[str, Capability]:
        """The capabilities declared so far, by name; read-only."""
        return MappingProxyType(self._capabilities)

    @property
    def parts(self) -> AgentParts:
        """Everything declared so far, as the worker takes it; the runtime's business."""
        return AgentParts(
            self.name,
            self.version,
            tuple(self._capabilities.values()),
            tuple(self._loops.values()),
            tuple(self._on_startup),
            tuple(self._on_shutdown),
            tuple(self._on_secrets_changed),
            self._state,
        )

    @property
    def state(self) -> State:
        """The agent's durable memory, for hooks and loops; see `kagent_sdk.State`.

        Each call commits by itself, in a task too: what is to be committed with a task's result, or
        not at all, goes through its ``ctx.state``. Before the agent runs, at import, every call
        raises `kagent_sdk.StateError`.
        """
        return self._state.state

    @overload
    def capability(self, function: AnyFunction, /) -> AnyFunction: ...

    @overload
    def capability(
        self,
        /,
        *,
        name: str | None = None,
        description: str | None = None,
        idempotent: bool = False,
        max_attempts: int = 3,
        timeout_s: float | None = None,
        max_concurrency: int | None = None,
        on_disconnect: OnDisconnect = "cancel",
        durable: bool = True,
        tags: Iterable[str] = (),
    ) -> Callable[[AnyFunction], AnyFunction]: ...

    def capability(self, function: Any = None, /, **options: Any) -> Any:
        """Declare a function as a capability: ``@agent.capability``, or with options in parentheses.

        An async function runs in the event loop, an async generator streams its items, a plain
        function runs in a thread. Input and output are checked against the type hints. A
        ``sys.exit()`` in it fails the task, not the agent.

        Args:
            function: the function.
            **options: all that follow, by name.
            name: the capability's name; the function's own if not given.
            description: what it does, for callers; the function's docstring if not given.
            idempotent: whether a task may run again after its worker crashed.
            max_attempts: how often a task runs at most, the first time included, 1 to 1000.
            timeout_s: how long a task may take if its caller does not say; None: as
                ``tasks.default_timeout_s`` says.
            max_concurrency: how many of its tasks run at a time; None: as many as there are places.
            on_disconnect: whether a task is cancelled or goes on when its caller hangs up.
            durable: whether its tasks are journaled.
            tags: words to find it by.

        Raises:
            DeclarationError: the function cannot become a capability, or the name is taken; the
                message says what to write instead.
        """
        if function is None:
            return lambda each: self._add_capability(each, options)
        if isinstance(function, str):
            raise DeclarationError(
                f"@agent.capability({function!r}): write @agent.capability(name={function!r})"
            )
        return self._add_capability(function, options)

    @overload
    def loop(self, function: AnyFunction, /) -> AnyFunction: ...

    @overload
    def loop(
        self, /, *, every_s: float | None = None, name: str | None = None
    ) -> Callable[[AnyFunction], AnyFunction]: ...

    def loop(
        self, function: Any = None, /, *, every_s: float | None = None, name: str | None = None
    ) -> Any:
        """Declare a function as a loop: ``@agent.loop``, or ``@agent.loop(every_s=30)``.

        With ``every_s`` it runs again and again, from start to start, the first time at once.
        Without, it runs for the agent's life; if it returns, it is shown as stopped. When it
        raises, the traceback is logged and it runs again after 1 s, 2 s … 60 s. A plain function
        runs in a thread of its own. It may take a `LoopContext`.

        Args:
            function: the function.
            every_s: seconds from one start to the next, above 0.
            name: the function's own if not given.

        Raises:
            DeclarationError: the function cannot become a loop, or the name is taken.
        """
        if function is None:
            return lambda each: self._add_loop(each, every_s, name)
        if isinstance(function, int | float):
            raise DeclarationError(
                f"@agent.loop({function!r}): write @agent.loop(every_s={function!r})"
            )
        return self._add_loop(function, every_s, name)

    def on_startup(self, function: AnyFunction) -> AnyFunction:
        """Run a function, sync or async, before the first task; several run in order.

        They run in the worker's event loop. One that raises ends the worker: the agent does not
        start.

        Raises:
            DeclarationError: it cannot be called without arguments.
        """
        self._check_open(function)
        self._on_startup.append(check_hook("on_startup", function))
        return function

    def on_shutdown(self, function: AnyFunction) -> AnyFunction:
        """Run a function, sync or async, after the last task; several run in reverse order.

        They run in the worker's event loop, within the agent's ``shutdown.grace_s``. One that
        raises is logged, and the others run.

        Raises:
            DeclarationError: it cannot be called without arguments.
        """
        self._check_open(function)
        self._on_shutdown.append(check_hook("on_shutdown", function))
        return function

    def on_secrets_changed(self, function: AnyFunction) -> AnyFunction:
        """Run a function, sync or async, when the vault gave this agent other secrets.

        ``ctx.secrets`` shows the new values already. The function may take the `Secrets`. It runs in
        the worker's event loop, behind ``on_startup``; several run in order. One that raises is
        logged, and nothing else happens.

        Raises:
            DeclarationError: it needs more than one argument.
        """
        self._check_open(function)
        self._on_secrets_changed.append(check_secrets_hook(function))
        return function

    def run(self) -> None:
        """Run the agent until it is told to stop; the last line of an entrypoint.

        In a process that a host has started, this is the worker, and it returns after
        ``on_shutdown``. In any other it replaces the process by the host, as ``kos-agent run`` in
        the entrypoint's folder would, and does not return.

        Raises:
            StartupError: it was called twice, in a running event loop, during an import, or
                without a script.
            SystemExit: the agent did not start; why is on stderr.
        """
        # Imported here: a process that only becomes the host needs none of the worker.
        from kagent_sdk.worker import process  # noqa: PLC0415

        if self._has_run or process.is_used():
            raise StartupError("agent.run() was called twice: a process runs one agent, once")
        _refuse_running_loop()
        _refuse_import(sys._getframe(1))  # noqa: SLF001 - how else to know who calls
        self._has_run = True
        if process.has_host():
            process.run_worker(self.parts, self)
        else:
            _become_host()

    def _add_capability(self, function: AnyFunction, options: dict[str, Any]) -> AnyFunction:
        self._check_open(function)
        capability = declare(function, **options)
        taken = self._capabilities.get(capability.name)
        if taken is not None:
            _refuse_name("capability", capability.name, taken.function, function)
        if len(self._capabilities) >= MAX_CAPABILITIES:
            raise DeclarationError(f"an agent has at most {MAX_CAPABILITIES} capabilities")
        self._capabilities[capability.name] = capability
        return function

    def _add_loop(
        self, function: AnyFunction, every_s: float | None, name: str | None
    ) -> AnyFunction:
        self._check_open(function)
        part = declare_loop(function, every_s, name)
        taken = self._loops.get(part.name)
        if taken is not None:
            _refuse_name("loop", part.name, taken.function, function)
        if len(self._loops) >= MAX_LOOPS:
            raise DeclarationError(f"an agent has at most {MAX_LOOPS} loops")
        self._loops[part.name] = part
        return function

    def _check_open(self, function: object) -> None:
        if self._has_run:
            raise DeclarationError(
                f"{function!r:.200} is declared after agent.run() began: declare it at import"
            )


def _check_text(what: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and 0 < len(value) <= MAX_TEXT_CHARS:
        return value
    raise DeclarationError(
        f"Agent({what}={value!r:.200}): {what} must be a string of 1 to {MAX_TEXT_CHARS} characters"
    )


def _refuse_name(
    what: str, name: str, first: Callable[..., Any], second: Callable[..., Any]
) -> NoReturn:
    raise DeclarationError(
        f"{what} {name!r} is declared twice: {locate(first)} and {locate(second)}: "
        f"rename one, or give it another name=…"
    )


def _refuse_running_loop() -> None:
    try:
        get_running_loop()
    except RuntimeError:
        return
    raise StartupError(
        "agent.run() was called in a running event loop: call it at the end of the entrypoint, "
        "outside of every async function"
    )


def _refuse_import(frame: FrameType | None) -> None:
    """Refuse to run from an import: of a test, of a tool, of a child of `multiprocessing`."""
    while frame is not None:
        is_child = frame.f_globals.get("__name__") == "__mp_main__"
        if is_child or frame.f_code.co_filename.startswith("<frozen importlib"):
            raise StartupError(f"agent.run() was called by an import: guard it with {GUARD}")
        frame = frame.f_back


def _become_host() -> NoReturn:
    """Replace this process by the host of the agent in the script's folder."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None or not sys.executable:
        raise StartupError(
            f"agent.run() found no script to run: put the agent into {DEFAULT_ENTRYPOINT} and "
            f"start that"
        )
    path = Path(script).resolve()
    if path.name != DEFAULT_ENTRYPOINT:
        os.environ[ENTRYPOINT_VARIABLE] = path.name
    sys.stdout.flush()
    sys.stderr.flush()
    arguments = [sys.executable, "-m", "kagent_sdk", "run", str(path.parent)]
    os.execv(sys.executable, arguments)  # noqa: S606 - the arguments are ours
