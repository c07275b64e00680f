"""`kos-agent sandbox egress`, run as a container runs it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.commands.sandbox_egress import parse_listen
from tests.acceptance.cli import COMMAND, DEADLINE_S, environment, kos
from tests.integration.egress_rig import running_upstream

AS_IT_IS = {"AGENT_SANDBOX__MODE": "off"}
"""A confined proxy writes nothing, what coverage has seen neither."""


class Proxy:
    """The command while it runs.

    Attributes:
        url: where it listens.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url = f"http://{self.read('egress_listening')['address']}"

    def read(self, event: str) -> dict[str, Any]:
        """Return the next record of an event."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            record: dict[str, Any] = json.loads(line)
            if record["event"] == event:
                return record
        raise AssertionError(f"ended without {event}")

    def status(self) -> str:
        """Return what the kernel says of the process."""
        return Path(f"/proc/{self.process.pid}/status").read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """End it; return its exit code, and what it said last."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out


@contextmanager
def running(folder: Path, allow: list[str], env: Mapping[str, str]) -> Iterator[Proxy]:
    """Run the proxy of an agent that allows this."""
    folder.joinpath("config.yaml").write_text(
        json.dumps({"sandbox": {"network": {"allow": allow}}})
    )
    process = subprocess.Popen(
        [*COMMAND, "sandbox", "egress", str(folder), "--listen", "127.0.0.1:0"],
        env=environment(env),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Proxy(process)
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


async def test_it_lets_through_what_is_listed_and_ends_when_told(tmp_path: Path) -> None:
    """The container's whole life: no token, no vault, a line for each decision."""
    async with running_upstream() as server:
        allow = [f"localhost:{server.port}"]
        env = AS_IT_IS | {"AGENT_SANDBOX__NETWORK__UPSTREAM": "127.0.0.1:1"}
        with running(tmp_path, allow, env) as proxy:
            async with httpx.AsyncClient(proxy=proxy.url) as client:
                allowed = await client.get(f"http://localhost:{server.port}/x")
                refused = await client.get("http://other.example.com/x")
            told = proxy.read("egress_closed"), proxy.read("egress_refused")
            ended = proxy.stop()

    assert allowed.text == "hello"
    assert (refused.status_code, refused.headers["x-egress-reason"]) == (403, "not_listed")
    assert [one.get("destination") for one in told] == [*allow, "other.example.com:80"]
    assert ended[0] == 0
    assert '"event":"egress_stopped"' in ended[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_connection_that_is_open_does_not_hold_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    """An engine kills what does not stop in time, and says so with another exit code."""
    async with running_upstream() as server:
        with running(tmp_path, [f"localhost:{server.port}"], AS_IT_IS) as proxy:
            async with (
                httpx.AsyncClient(proxy=proxy.url) as client,
                client.stream("GET", f"http://localhost:{server.port}/endless") as answer,
            ):
                assert answer.status_code == 200
                code, _ = proxy.stop(number)

    assert code == 0


async def test_it_confines_itself(tmp_path: Path) -> None:
    """Whoever takes it over by a byte of its traffic finds no file to write and no program to run."""
    unseen = dict.fromkeys(("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"), "")
    async with running_upstream() as server:
        with running(tmp_path, [f"localhost:{server.port}"], unseen) as proxy:
            async with httpx.AsyncClient(proxy=proxy.url) as client:
                answer = await client.get(f"http://localhost:{server.port}/x")
            status = proxy.status()
            code, _ = proxy.stop()

    assert answer.text == "hello"
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert "CapEff:\t0000000000000000" in status
    assert code == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:3128", ("127.0.0.1", 3128)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),  # noqa: S104 - nothing listens
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_where_it_listens(text: str, expected: tuple[str, int]) -> None:
    """And nowhere else."""
    assert parse_listen(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", ":3128", "3128", "localhost:3128", "::1:3128", "[127.0.0.1]:1", "[::1%lo]:1"),
        *("127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:٣", "127.1:1"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """A proxy without a token must not listen on more than was meant."""
    with pytest.raises(UsageError, match="is no address and port"):
        parse_listen(text)


async def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    """Its container would start again and again; the reason is in the engine's log."""
    async with running_upstream() as server:
        taken = f"127.0.0.1:{server.port}"
        empty = kos("sandbox", "egress", tmp_path)
        (tmp_path / "config.yaml").write_text('sandbox: {network: {allow: ["a.example.com:443"]}}')
        busy = kos("sandbox", "egress", tmp_path, "--listen", taken, env=AS_IT_IS)
    nowhere = kos("sandbox", "egress", tmp_path / "none")

    assert (empty.code, empty.err) == (
        2,
        "error: nothing could pass: sandbox.network.allow in config.yaml lists no destination\n",
    )
    assert (busy.code, busy.err) == (
        3,
        f"error: cannot listen on {taken}: {os.strerror(errno.EADDRINUSE)}\n",
    )
    assert nowhere.code == 2
