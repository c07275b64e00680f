"""Attempts by the one exit that there is: the egress proxy, and the port that it is reached by.

Outside there is no proxy, and the same is reached without one.
"""

from __future__ import annotations

import base64
import os
import socket
from urllib.parse import urlsplit

from .ground import BlockedError, Ground, attempt
from .network import LOOPBACK, ask, speak_to_host


def _go(host: str, port: int, *, with_token: bool = True) -> socket.socket:
    """Connect to a place: by the proxy, if there is one."""
    proxy = urlsplit(os.environ.get("HTTPS_PROXY", ""))
    if proxy.port is None:
        return socket.create_connection((host, port), 5)
    connection = socket.create_connection((proxy.hostname or LOOPBACK, proxy.port), 5)
    lines = [f"CONNECT {host}:{port} HTTP/1.1", f"Host: {host}:{port}"]
    if with_token:
        token = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {token}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = connection.recv(4096)
    if b" 200 " not in answer.partition(b"\r\n")[0]:
        raise BlockedError(f"the proxy said {answer[:60]!r}")
    return connection


@attempt()
def reach_neighbour_by_exit(ground: Ground) -> str:
    """Have the proxy connect to a server on its own machine."""
    with _go(LOOPBACK, ground.tcp_port) as connection:
        return ask(ground, connection)


@attempt()
def reach_neighbour_by_exit_and_name(ground: Ground) -> str:
    """The same by a name that leads there."""
    with _go("localhost", ground.tcp_port) as connection:
        return ask(ground, connection)


@attempt()
def reach_control_port_by_exit(ground: Ground) -> str:
    """Have the proxy give orders to the host, whose process it is in."""
    with _go(LOOPBACK, ground.port) as connection:
        return speak_to_host(connection)


@attempt()
def reach_neighbour_without_token(ground: Ground) -> str:
    """Use the proxy as somebody who does not know its token."""
    with _go(LOOPBACK, ground.tcp_port, with_token=False) as connection:
        return ask(ground, connection)


@attempt()
def reach_same_port_elsewhere(ground: Ground) -> str:
    """Connect to the proxy's port of another address."""
    with socket.create_connection(("127.0.0.2", ground.proxy_port), 5):
        return f"connected to 127.0.0.2:{ground.proxy_port}"
