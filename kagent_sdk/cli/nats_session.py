"""A connection to NATS for the time of one command; it lives in a loop that runs while a method waits."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kagent_sdk.cli.boundary import CommandError, UnreachableError, UsageError
from kagent_sdk.cli.text import clean_line
from kagent_sdk.errors import LinkError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Generator, Iterator
    from typing import TypeVar

    from kagent_sdk.cli.target import Target
    from kagent_sdk.cli.task_stream import TaskUpdate
    from kagent_sdk.link.nats.caller import NatsCaller

    T = TypeVar("T")

CONNECT_S = 5.0
REQUEST_S = 10.0
SAME_ID = "the task may run all the same: call it again with the same --id"
_THE_CALLERS_FAULT = frozenset({"conflict", "invalid_input", "unknown_capability"})


class NatsSession:
    """Waits for what is asked of a caller, and translates its errors.

    Args:
        runner: of the loop in which the caller lives.
        caller: talks to NATS.
        url: of the server.
    """

    def __init__(self, runner: asyncio.Runner, caller: NatsCaller, url: str = "") -> None:
        self.caller = caller
        self.url = url
        self._runner = runner

    def run(self, work: Coroutine[Any, Any, T], way_out: str = "try again") -> T:
        """Return what a coroutine returns.

        Args:
            work: what to wait for.
            way_out: what to do when the server is lost meanwhile.

        Raises:
            CommandError: what is asked for is refused, or NATS does not answer.
        """
        from kagent_sdk.link.nats import jobs  # noqa: PLC0415 - the extra
        from kagent_sdk.link.nats.connection import FAILURES, describe  # noqa: PLC0415
        from kagent_sdk.link.nats.record_store import RecordError  # noqa: PLC0415
        from kagent_sdk.link.port import CallFailedError  # noqa: PLC0415

        try:
            # Or a Ctrl-C could be lost in the client: see there.
            return self._runner.run(jobs.finish(work))
        except asyncio.CancelledError:
            # Nothing else cancels this. A Runner forgets a Ctrl-C that comes as it begins (CPython 3.11).
            raise KeyboardInterrupt from None
        except CallFailedError as exc:
            raise _refusal(exc.failure.code, exc.failure.message) from None
        except RecordError:
            raise CommandError("the record of the task is malformed", code="unreachable") from None
        except FAILURES as exc:
            raise UnreachableError(
                f"{clean_line(describe(exc))}; {way_out}", code="connection_lost"
            ) from None
        finally:
            work.close()  # it may not have begun

    def drain(self, updates: AsyncGenerator[TaskUpdate]) -> Generator[TaskUpdate]:
        """Yield what a generator does; its errors are those of `run`."""

        async def following() -> TaskUpdate | None:
            return await anext(updates, None)

        try:
            while (update := self.run(following(), SAME_ID)) is not None:
                yield update
        finally:
            # Seen on a slow machine: a step that was cancelled by Ctrl-C can leave the generator marked as
            # running (CPython 3.11), and aclose() refuses that. The loop ends it with itself.
            if not getattr(updates, "ag_running", False):
                self.run(updates.aclose())


@contextmanager
def open_session(target: Target) -> Iterator[NatsSession]:
    """Connect to a NATS server, for the time of the block.

    Raises:
        UsageError: the client of NATS is not installed.
        UnreachableError: no server answers, or it refuses.
    """
    if find_spec("nats") is None:
        raise UsageError(
            f"{clean_line(target.url)} needs NATS' client: pip install 'kagent-sdk[nats]'",
            code="nats_missing",
        )
    from kagent_sdk.link.nats.client import connect_caller  # noqa: PLC0415 - the extra
    from kagent_sdk.link.settings import LinkTls  # noqa: PLC0415

    certificate = target.client_certificate
    # One file has both, as for agents: OpenSSL then looks for the key beside the certificate.
    tls = None if certificate is None else LinkTls(certificate=certificate.absolute())
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        caller = connect_caller(
            target.url, token=target.token, tls=tls, timeout_s=REQUEST_S, connect_s=CONNECT_S
        )
        try:
            found = runner.run(stack.enter_async_context(caller))
        except LinkError as exc:
            raise UnreachableError(
                f"{clean_line(exc)}; is {clean_line(target.url)} the address of a NATS server with "
                "JetStream, and the token right (--token-file FILE)?"
            ) from None
        try:
            yield NatsSession(runner, found, target.url)
        finally:
            runner.run(stack.aclose())


def _refusal(code: str, message: str) -> CommandError:
    """Return the error for a task that was not taken."""
    said = clean_line(message)
    if code == "unknown_capability":
        return UsageError(f"{said}; see what there is: kos-agent capabilities", code=code)
    if code in _THE_CALLERS_FAULT:
        return UsageError(said, code=code)
    return CommandError(said, code=code)
