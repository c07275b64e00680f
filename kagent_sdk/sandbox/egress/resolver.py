"""Ask the system for the addresses of a name, without waiting for it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

MAX_LOOKUPS = 8
"""At a time: a name server that does not answer holds a thread for half a minute."""


class ThreadResolver:
    """Calls getaddrinfo(3) in threads of its own.

    They are daemons: one that hangs does not keep the interpreter from ending. A lookup that nobody
    waits for any more keeps its place until it has ended.
    """

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(MAX_LOOKUPS)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a name, in the system's order (RFC 6724).

        Raises:
            OSError: there are none; or no thread.
        """
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()

        def tell(found: list[str] | OSError) -> None:
            self._places.release()
            if answer.done():
                return
            if isinstance(found, OSError):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def work() -> None:
            found = _look_up(host, port)
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(tell, found)

        try:
            threading.Thread(target=work, name="egress-lookup", daemon=True).start()
        except RuntimeError as exc:
            self._places.release()
            raise OSError(str(exc)) from exc
        return await answer


def _look_up(host: str, port: int) -> list[str] | OSError:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        return exc
    except UnicodeError as exc:
        return OSError(str(exc))
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
