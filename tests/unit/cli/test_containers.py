"""How a command reaches an agent in a container: engines are programs, and so stand-ins serve."""

from __future__ import annotations

import json
import ssl
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
import trustme
from typing_extensions import override

from kagent_sdk.cli.boundary import CommandError, UnreachableError, UsageError
from kagent_sdk.cli.client import AgentClient
from kagent_sdk.cli.containers import RELAY, find_relay
from kagent_sdk.cli.engines import ask, find_engine, find_image, size_of
from kagent_sdk.cli.location import local_target
from kagent_sdk.cli.target import Credentials, Target
from kagent_sdk.host.announcement import pid_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

ELSEWHERE = {"pid": 1, "pid_namespace": 1, "url": "http://0.0.0.0:8080"}


def install(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an engine that does this onto the path, and nothing else."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


class Hello(BaseHTTPRequestHandler):
    """Answers as an agent would."""

    @override
    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        """Answer with the path and the token."""
        body = json.dumps({"path": self.path, "token": self.headers["Authorization"]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve on this machine for the time of the block, and give the port."""
    with HTTPServer(("127.0.0.1", 0), Hello) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def port() -> Iterator[int]:
    """Return the port of a server on this machine."""
    with serving() as number:
        yield number


def test_the_relay_leads_to_the_agent(port: int) -> None:
    """Requests and answers pass as they are, the token too."""
    words = (sys.executable, "-I", "-S", "-c", RELAY, "127.0.0.1", str(port))
    client = AgentClient(Target("http://127.0.0.1:1", "t", relay=words))

    assert client.get("/status") == {"path": "/status", "token": "Bearer t"}
    assert client.get("/again")["path"] == "/again"


def test_an_encrypted_agent_is_relayed_to_encrypted() -> None:
    """The engine sees no more than a network would; the certificate is looked at all the same."""
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = authority.issue_cert("agent.example")
    certificate.configure_cert(server_context)
    shown = certificate.cert_chain_pems[0].bytes().decode()
    with serving(server_context) as port:
        words = (sys.executable, "-I", "-S", "-c", RELAY, "127.0.0.1", str(port))
        target = Target("https://127.0.0.1:1", certificate=shown, relay=words)
        stranger = Target("https://127.0.0.1:1", relay=words)

        assert AgentClient(target).get("/status")["path"] == "/status"
        with pytest.raises(UnreachableError):
            AgentClient(stranger).get("/status")


@pytest.mark.parametrize("words", [(sys.executable, "-c", ""), ("/no/such/program",)])
def test_a_relay_that_ends_is_an_agent_that_does_not_answer(words: tuple[str, ...]) -> None:
    """The container may have gone between the look and the question."""
    client = AgentClient(Target("http://127.0.0.1:1", relay=words))

    with pytest.raises(UnreachableError):
        client.get("/status")


def test_an_agent_of_another_namespace_is_looked_for_at_the_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its host.json says means nothing out here: another agent may have that port."""
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime/host.json").write_text(json.dumps(ELSEWHERE))
    engines = tmp_path / "bin"
    engines.mkdir()
    install(engines, "podman", "exit 1", monkeypatch)
    install(engines, "docker", f'[ "$3" = label=io.kos.folder={tmp_path} ] && echo a', monkeypatch)
    relay = local_target(tmp_path, Credentials(), {}).relay

    assert relay[:4] == ("docker", "exec", "--interactive", "a")
    assert relay[-2:] == ("127.0.0.1", "8080")


def test_an_agent_of_this_namespace_is_reached_directly(tmp_path: Path) -> None:
    """Inside the container its own commands need no engine."""
    (tmp_path / "runtime").mkdir()
    document = {**ELSEWHERE, "pid_namespace": pid_namespace()}
    (tmp_path / "runtime/host.json").write_text(json.dumps(document))

    assert local_target(tmp_path, Credentials(), {}).relay == ()


def test_a_container_that_no_engine_knows_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is another user's, or was started by hand."""
    install(tmp_path, "podman", "exit 0", monkeypatch)

    with pytest.raises(UnreachableError, match="name its address with --url URL"):
        find_relay(tmp_path, "http://127.0.0.1:8080")


def test_an_engine_is_the_first_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever is there serves; one that is named must be."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no container engine; install one of podman, docker"):
        find_engine(None, ("podman", "docker"))
    install(tmp_path, "docker", "", monkeypatch)

    assert find_engine(None, ("podman", "docker")) == "docker"
    with pytest.raises(UsageError, match="podman is not installed"):
        find_engine("podman", ("podman", "docker"))


@pytest.mark.parametrize(
    ("script", "size"),
    [
        ("echo '[{\"Size\": 12}]'", 12),
        ("echo '{\"Size\": 0}'", None),
        ("echo strange", None),
        ("echo 'Error: no such image' >&2; exit 125", None),
    ],
)
def test_the_size_is_told_where_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, size: int | None
) -> None:
    """Buildah says 0."""
    install(tmp_path, "podman", script, monkeypatch)

    assert size_of("podman", "a") == size


def test_an_engine_that_does_not_work_is_no_missing_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Building again would not help."""
    script = "echo 'Cannot connect to the Docker daemon' >&2; exit 1"
    install(tmp_path, "docker", script, monkeypatch)

    with pytest.raises(CommandError, match="docker does not work: Cannot connect"):
        find_image("docker", "a")
    with pytest.raises(CommandError, match="cannot run podman: No such file"):
        ask("podman", "ps")
