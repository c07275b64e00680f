"""What agents do every day works inside the sandbox, with the policy that is the default."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.agents import POLL_S
from tests.integration.escapes.everyday import EVERYDAY
from tests.integration.readable_python import is_root
from tests.integration.sandbox_stage import Scenario, Stage, free_port, running_stage

ANSWER = "hello from outside"

EXPECTED = {
    "compute_with_numpy": "(500, 500) True 3",
    "run_threads": "10416 10416",
    "run_subprocesses": "ONE 3 0 -15",
    "run_installed_packages_in_child": "imported",
    "fork_processes": "2470 1 counted 0",
    "spawn_processes": "2470 1 counted 0",
    "use_executor_of_processes": "285",
    "share_memory": "hello",
    "use_sqlite": "4950 True",
    "use_temporary_files": "again archive.zip link moved True True",
    "use_the_machines_facts": "2 True True True 8 True e3b0",
    "use_signals_and_timers": "7",
    "write_a_log_of_ones_own": "written",
    "read_own_folder": "True True",
    "ask_with_httpx": ANSWER,
    "ask_with_urllib": ANSWER,
}

SCENARIOS = [Scenario("root" if is_root() else "user", "process"), Scenario("user", "bwrap")]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_everyday_work_goes_on_inside(scenario: Scenario, readable_python: Path) -> None:
    """A sandbox that breaks numpy or a child process is switched off by its first user."""
    listen = free_port()
    with serving_tls() as (port, authority):
        config = (
            "tasks: {max_concurrency: 2}\n"
            f"sandbox: {{network: {{allow: ['localhost:{port}'], listen: [{listen}]}}}}\n"
        )
        facts = {"url": f"https://localhost:{port}/", "authority": authority, "listen": listen}
        with running_stage(readable_python, scenario, config) as stage:
            assert stage.agent.call("identity")["user"] != 0
            found = {name: work(stage, name, facts) for name in EXPECTED}
            refused = work(stage, "ask_what_is_not_allowed", facts)
            by_aiohttp = work_async(stage, "ask_with_aiohttp", facts)
            by_loop = work_async(stage, "run_async_subprocess", facts)
            served = serve(stage, facts)
            code = stage.agent.stop()

    assert found == EXPECTED
    assert "403" in refused
    assert (by_aiohttp, by_loop, served) == (ANSWER, "done 0 16", "served hello")
    assert set(EVERYDAY) == {*EXPECTED, "ask_what_is_not_allowed"}
    assert code == 0


def work(stage: Stage, name: str, facts: dict[str, Any]) -> str:
    """Have the agent do a piece of work in a thread."""
    answer = stage.agent.post("/v1/capabilities/work", {"name": name, "facts": facts}, timeout_s=90)
    return str(answer.json()) if answer.status == 200 else answer.body.decode()


def work_async(stage: Stage, name: str, facts: dict[str, Any]) -> str:
    """Have the agent do a piece of work on its event loop."""
    body = {"name": name, "facts": facts}
    answer = stage.agent.post("/v1/capabilities/work_async", body, timeout_s=90)
    return str(answer.json()) if answer.status == 200 else answer.body.decode()


def serve(stage: Stage, facts: dict[str, Any]) -> str:
    """Have the agent serve one connection on its port, and connect to it."""
    told: list[str] = []
    thread = threading.Thread(
        target=lambda: told.append(work_async(stage, "serve_on_allowed_port", facts))
    )
    thread.start()
    sign = stage.agent.directory / "runtime" / "data" / "serving"
    while not sign.exists() and thread.is_alive():
        time.sleep(POLL_S)
    if not sign.exists():
        thread.join()
        return told[0]
    with socket.create_connection(("127.0.0.1", facts["listen"]), 20) as connection:
        connection.sendall(b"hello\n")
        answer = connection.recv(100).decode().strip()
    thread.join()
    return answer


class Hello(http.server.BaseHTTPRequestHandler):
    """Answers every GET."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        body = ANSWER.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing."""


@contextmanager
def serving_tls() -> Iterator[tuple[int, str]]:
    """Serve HTTPS on the loopback; yield the port, and the authority to trust."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], authority.cert_pem.bytes().decode()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
