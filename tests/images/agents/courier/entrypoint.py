"""An agent that fetches what its callers name, by the proxy that it is given."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

from kagent_sdk import Agent

agent = Agent()


@agent.capability
def fetch(url: str) -> str:
    """Fetch a page by the proxy; say what came of it."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            text: str = answer.read(1000).decode()
            return text
    except urllib.error.HTTPError as exc:
        return f"{exc.code} {exc.headers.get('X-Egress-Reason')}"
    except OSError as exc:
        return f"{type(exc).__name__}: {exc}"


@agent.capability
def reach(host: str, port: int) -> str:
    """Connect past the proxy; say what came of it."""
    try:
        with socket.create_connection((host, port), timeout=5):
            return "reached"
    except OSError as exc:
        return f"{type(exc).__name__}: {exc}"


if __name__ == "__main__":
    agent.run()
