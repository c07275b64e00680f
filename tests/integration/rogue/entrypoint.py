"""A worker that keeps to no rule: it sends what its callers ask for, and reads when it likes.

It speaks the frames by itself, without the library's worker, and imports little: it is restarted
a hundred times in a test.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from itertools import count
from typing import Any

from kagent_sdk.protocol.frames import HEADER_BYTES, TO_WORKER, FrameDecoder, Kind, encode
from kagent_sdk.protocol.messages import decode_run

CAPABILITIES = ("echo", "send", "flood", "deaf", "shout")
BATCH_BYTES = 256 * 1024

sock = socket.socket(fileno=int(os.environ["AGENT_WORKER_FD"]))
sock.settimeout(None)
lock = threading.Lock()


def send(data: bytes) -> None:
    """Send bytes; a host that has hung up ends this process."""
    with lock:
        try:
            sock.sendall(data)
        except OSError:
            os._exit(1)


def manifest(name: str) -> dict[str, Any]:
    """Return the least that a capability must tell of itself."""
    return {"name": name, "input_schema": {}, "output_schema": {}}


def beat() -> None:
    """Show a pulse for ever."""
    payload = json.dumps({"lag_ms": 0, "running": 0}).encode()
    while True:
        send(encode(Kind.HEARTBEAT, 0, payload))
        time.sleep(0.2)


def run(name: str, number: int, task: dict[str, Any]) -> bytes:
    """Do what a task asks; return its output."""
    if name == "send":
        for frame in task["frames"]:
            own = number if frame["number"] == "own" else frame["number"]
            send(encode(frame["kind"], own, bytes.fromhex(frame["payload"])))
        send(bytes.fromhex(task["raw"]))
    elif name == "flood":
        own = number if task["number"] == "own" else task["number"]
        payload = task["payload"].encode()
        many = max(1, BATCH_BYTES // (len(payload) + HEADER_BYTES))
        is_new, fresh = own == "new", count(1)
        batch = b"" if is_new else encode(task["kind"], own, payload) * many
        ends_at_s = time.monotonic() + task["seconds"]
        while time.monotonic() < ends_at_s:
            if is_new:
                batch = b"".join(encode(task["kind"], next(fresh), payload) for _ in range(many))
            send(batch)
    elif name == "deaf":
        time.sleep(task["seconds"])
    elif name == "shout":
        for _ in range(task["count"]):
            os.write(task["fd"], task["text"].encode("utf-8", "surrogatepass"))
    return b"null" if name != "echo" else json.dumps(task).encode()


def main() -> None:
    """Serve until the host hangs up."""
    hello = {
        "protocol": 1,
        "sdk_version": "0",
        "python_version": sys.version.split()[0],
        "pid": os.getpid(),
        "capabilities": [manifest(name) for name in CAPABILITIES],
    }
    send(encode(Kind.HELLO, 0, json.dumps(hello).encode()))
    decoder = FrameDecoder(limit_bytes=1 << 26, kinds=TO_WORKER)
    while data := sock.recv(65536):
        for kind, number, payload in decoder.feed(data):
            if kind == Kind.WELCOME:
                send(encode(Kind.READY, 0))
                threading.Thread(target=beat, daemon=True).start()
            elif kind == Kind.RUN:
                task = decode_run(payload)
                output = run(CAPABILITIES[task.capability_index], number, json.loads(task.input))
                send(encode(Kind.RESULT, number, output))
            elif kind == Kind.STOP:
                os._exit(0)


main()
