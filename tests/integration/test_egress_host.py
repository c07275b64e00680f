"""The proxy in the host: there before the workers, by the configuration of each of their generations."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from kagent_sdk.config.models import AgentConfig
from kagent_sdk.errors import StartupError
from kagent_sdk.host.egress import RELAY_PORT, Egress, Grant, egress_environment
from kagent_sdk.protocol.sandbox import EgressInfo
from kagent_sdk.sandbox import relay
from tests.integration.egress_rig import NAME, connect_request, running_upstream

PLAIN_CLIENT = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as answer:
    print(answer.read().decode())
"""


def config(
    *allow: str, isolation: str = "process", mode: str = "enforce", **network: Any
) -> AgentConfig:
    """Return a configuration with an allow-list."""
    return AgentConfig.model_validate(
        {
            "worker": {"isolation": isolation},
            "sandbox": {"mode": mode, "network": {"allow": list(allow), **network}},
        }
    )


@dataclass
class Running:
    """A proxy of a host that runs.

    Attributes:
        egress: the part of the host.
        vault: what it finds secrets in.
        records: of the log.
    """

    egress: Egress
    vault: dict[str, object]
    records: list[tuple[str, str, Mapping[str, Any]]]


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Running]:
    """Run the host's part; what is admitted before may be served at once."""
    (directory / "runtime").mkdir(exist_ok=True)
    made = Running(Egress(directory), {}, [])

    def log(level: str, event: str, **values: Any) -> None:
        made.records.append((level, event, values))

    job = asyncio.create_task(made.egress.run(log, made.vault.get))
    try:
        yield made
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        assert not [record for record in made.records if record[1] == "egress_broke"]


async def fetch(grant: Grant, url: str) -> tuple[int, str]:
    """Ask through the proxy, by the worker's variables alone; in a process, as a worker does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-c", PLAIN_CLIENT, url),
        env=egress_environment(grant),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, (out + err).decode().strip()


async def test_a_client_of_the_standard_library_needs_only_the_variables(tmp_path: Path) -> None:
    """Plain HTTP, and the reason of a refusal in its traceback."""
    async with running_upstream() as upstream, running(tmp_path) as host:
        grant = host.egress.admit(config(f"127.0.0.1:{upstream.port}"))
        assert grant is not None
        good = await fetch(grant, f"http://127.0.0.1:{upstream.port}/x")
        bad = await fetch(grant, "https://evil.example.com/")

    assert good == (0, "hello")
    assert bad[0] == 1
    assert 'sandbox.network.allow: ["evil.example.com:443"]' in bad[1]


async def test_what_came_before_the_loop_is_served(tmp_path: Path) -> None:
    """The workers start first, and their first request may come before the host is ready."""
    egress = Egress(tmp_path)
    async with running_upstream() as upstream:
        grant = egress.admit(config(f"127.0.0.1:{upstream.port}"))
        assert grant is not None
        early = asyncio.create_task(fetch(grant, f"http://127.0.0.1:{upstream.port}/x"))
        job = asyncio.create_task(egress.run(lambda *_a, **_k: None, lambda _name: None))

        assert await early == (0, "hello")
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


async def test_every_generation_has_the_rules_that_it_was_started_with(tmp_path: Path) -> None:
    """A reload takes nothing from tasks that still run, and gives the new ones at once what is theirs."""
    async with running_upstream() as upstream, running(tmp_path) as host:
        url = f"http://127.0.0.1:{upstream.port}/x"
        old = host.egress.admit(config(f"127.0.0.1:{upstream.port}"))
        new = host.egress.admit(config("other.example.com:443"))
        assert old is not None
        assert new is not None
        assert old.port == new.port
        assert await fetch(old, url) == (0, "hello")
        assert (await fetch(new, url))[0] == 1

        host.egress.withdraw(old)
        gone = await fetch(old, url)

    assert gone[0] == 1
    assert "407" in gone[1]


async def test_a_reload_can_bring_the_proxy(tmp_path: Path) -> None:
    """An agent that had no way out gets one."""
    async with running_upstream() as upstream, running(tmp_path) as host:
        assert host.egress.admit(config()) is None
        assert host.egress.section() == {"running": False}
        grant = host.egress.admit(config(f"127.0.0.1:{upstream.port}"))
        assert grant is not None

        assert await fetch(grant, f"http://127.0.0.1:{upstream.port}/x") == (0, "hello")


async def test_a_rotated_secret_is_the_next_requests(tmp_path: Path) -> None:
    """The vault is asked each time."""
    async with running_upstream() as upstream, running(tmp_path) as host:
        where = f"127.0.0.1:{upstream.port}"
        inject = [{"to": where, "header": "x-api-key", "secret": "api.key", "tls": False}]
        grant = host.egress.admit(config(where, inject=inject))
        assert grant is not None
        url = f"{egress_environment(grant)['AGENT_EGRESS_URL']}/{where}/v1"
        async with httpx.AsyncClient() as client:
            none = await client.get(url)
            host.vault["api.key"] = {"an": "object"}
            wrong = await client.get(url)
            host.vault["api.key"] = "first"
            await client.get(url)
            host.vault["api.key"] = "second"
            await client.get(url)

    assert (none.status_code, wrong.status_code) == (502, 502)
    assert [headers["x-api-key"] for _, _, headers in upstream.requests] == ["first", "second"]


async def test_with_a_network_namespace_the_proxy_is_on_a_socket(tmp_path: Path) -> None:
    """And the port is the relay's; the folder's path may be longer than an address."""
    folder = tmp_path / ("a" * 100)
    folder.mkdir()
    link = tmp_path / "s"
    async with running_upstream() as upstream, running(folder) as host:
        grant = host.egress.admit(config(f"127.0.0.1:{upstream.port}", isolation="bwrap"))
        assert grant is not None
        assert grant.port == RELAY_PORT
        assert grant.socket_path == folder / "runtime" / "egress.sock"
        assert grant.socket_path.stat().st_mode & 0o777 == 0o600
        link.symlink_to(grant.socket_path)  # as the sandbox binds it to where its name is short
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        carrier = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", relay.__file__, str(port), str(link)), stdout=subprocess.PIPE
        )
        assert carrier.stdout is not None
        assert await carrier.stdout.readline() == b"ready\n"
        inside = Grant(port, grant.token, grant.socket_path, grant.is_only_way)
        answer = await fetch(inside, f"http://127.0.0.1:{upstream.port}/x")
        carrier.kill()
        await carrier.wait()

    assert answer == (0, "hello")
    assert not grant.socket_path.exists()


async def test_what_happens_is_logged_and_shown(tmp_path: Path) -> None:
    """The author finds the line to add in the log, in the status, and in the exception."""
    async with running_upstream() as upstream, running(tmp_path) as host:
        where = f"127.0.0.1:{upstream.port}"
        grant = host.egress.admit(config(where))
        assert grant is not None
        await fetch(grant, f"http://{where}/x")
        await fetch(grant, f"https://{NAME}/")
        info = EgressInfo.model_validate(host.egress.section())

    assert info.running
    assert [(one.destination, one.plain, one.received_bytes) for one in info.destinations] == [
        (where, 1, 5)
    ]
    assert info.refused == {"not_listed": 1}
    assert info.denials[0].destination == f"{NAME}:443"
    events = {event: values for _, event, values in host.records}
    assert events["egress_closed"]["destination"] == where
    assert events["egress_closed"]["received_bytes"] == 5
    assert 'sandbox.network.allow: ["api.example.com:443"]' in events["egress_refused"]["detail"]
    assert grant.token not in repr((host.records, grant))


@pytest.mark.parametrize(
    ("settings", "has_proxy", "is_only_way"),
    [
        ({}, True, True),
        ({"mode": "report"}, True, True),
        ({"mode": "off"}, False, False),
        ({"external": True}, False, False),
        ({"isolation": "bwrap", "external": True}, False, False),
    ],
)
def test_where_the_worker_may_go_by_itself_there_is_no_proxy(
    tmp_path: Path, settings: dict[str, Any], has_proxy: bool, is_only_way: bool
) -> None:
    """But the endpoint that adds secrets is there all the same."""
    (tmp_path / "runtime").mkdir()
    where = "api.example.com:443"
    inject = [{"to": where, "header": "x-api-key", "secret": "k"}]
    egress = Egress(tmp_path)
    plain = egress.admit(config(where, **settings))
    injecting = egress.admit(config(where, inject=inject, **settings))
    egress.close()

    assert (plain is not None) is has_proxy
    assert injecting is not None
    assert injecting.is_only_way is is_only_way
    assert ("HTTPS_PROXY" in egress_environment(injecting)) is is_only_way
    assert "AGENT_EGRESS_URL" in egress_environment(injecting)
    assert injecting.socket_path is None


def test_without_a_grant_there_are_no_variables() -> None:
    """Those would lead nowhere."""
    assert egress_environment(None) == {}


def test_the_variables_take_the_place_of_the_hosts_own() -> None:
    """Whatever the host is set to, it leads to where no worker gets."""
    variables = egress_environment(Grant(4711, "t0ken", None, is_only_way=True))

    assert (
        variables["HTTPS_PROXY"] == variables["http_proxy"] == "http://agent:t0ken@127.0.0.1:4711"
    )
    assert variables["AGENT_EGRESS_URL"] == "http://127.0.0.1:4711/t0ken"
    assert variables["NO_PROXY"] == variables["no_proxy"] == ""


def test_a_folder_without_room_for_the_socket_is_named(tmp_path: Path) -> None:
    """The start fails, and says why."""
    with pytest.raises(StartupError, match=r"no socket for the egress proxy in .*: No such file"):
        Egress(tmp_path).admit(config("a.example.com:443", isolation="bwrap"))


async def test_cutting_a_generation_cuts_its_tunnels(tmp_path: Path) -> None:
    """Whatever it has left behind."""
    async with running_upstream(tls=True) as upstream, running(tmp_path) as host:
        where = f"127.0.0.1:{upstream.port}"
        grant = host.egress.admit(config(where))
        assert grant is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", grant.port)
        writer.write(connect_request(where, grant.token))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        host.egress.withdraw(grant)
        host.egress.withdraw(None)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
