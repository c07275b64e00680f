"""Answer every request with the same bytes: `python digest.py PORT`.

It is no HTTP server: it takes whatever arrives for one whole request.
"""

import asyncio
import sys
from typing import cast

BODY = b'{"summary":"","words":0}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


class Constant(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer."""
        del data
        self._transport.write(ANSWER)


async def main() -> None:
    """Serve on the port that the command line names."""
    loop = asyncio.get_running_loop()
    await loop.create_server(Constant, "127.0.0.1", int(sys.argv[1]))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
