"""Rotation: the running agent takes a good new vault as a whole, and survives every bad one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents import RunningAgent, running_agent
from tests.integration.conftest import copy_blabber
from tests.integration.vaults import EXPOSE, make_vault, mount_vault, put_vault, vault_file
from tests.integration.waiting import wait_until

TOKENS = [f"token-{number}-of-the-agent-0123456789" for number in range(2)]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[RunningAgent]:
    """Return a running agent with a vault."""
    folder = copy_blabber(tmp_path)
    (folder / "config.yaml").write_text(EXPOSE)
    put_vault(folder, make_vault(0))
    with running_agent(folder, env={"AGENT_WORKER__BACKOFF_INITIAL_S": "0.01"}) as running:
        yield running


def number_in(agent: RunningAgent) -> int:
    """Return which vault the worker knows."""
    return int(agent.call("current")["number"])


def vault_status(agent: RunningAgent) -> dict[str, Any]:
    """Return the vault's part of /status."""
    part = agent.status()["vault"]
    assert isinstance(part, dict)
    return part


def events_of(agent: RunningAgent, name: str) -> list[dict[str, Any]]:
    """Return the log's records of one event."""
    lines = (agent.directory / "logs" / "runtime.log").read_text().splitlines()
    return [record for line in lines if (record := json.loads(line))["event"] == name]


def count(agent: RunningAgent, kind: str) -> int:
    """Return how many descriptors (fd) or threads (task) the host has."""
    return sum(1 for _ in Path(f"/proc/{agent.pid}/{kind}").iterdir())


def test_a_replaced_vault_reaches_the_worker(agent: RunningAgent) -> None:
    """A key that is rotated every night must not need a restart every night."""
    before = agent.call("current")
    assert vault_status(agent)["generation"] == 1

    put_vault(agent.directory, make_vault(1))
    wait_until(lambda: agent.call("current")["told"] == ["1"])

    after = agent.call("current")
    assert (before["number"], after["number"]) == ("0", "1")
    assert after["pid"] == before["pid"]
    part = vault_status(agent)
    assert (part["generation"], part["error"], part["present"]) == (2, None, True)
    wait_until(lambda: "fail_to_note' failed" in agent.log_text)


def test_the_links_of_kubernetes_are_seen(tmp_path: Path) -> None:
    """A mounted secret is replaced by swapping one link in its folder."""
    folder = copy_blabber(tmp_path)
    (folder / "config.yaml").write_text(EXPOSE)
    mount_vault(folder, "..2026_11_24", make_vault(0))
    with running_agent(folder) as agent:
        assert number_in(agent) == 0
        mount_vault(folder, "..2026_11_25", make_vault(1))

        wait_until(lambda: number_in(agent) == 1)
        assert vault_status(agent)["error"] is None


def test_a_file_that_is_written_in_place_is_seen(agent: RunningAgent) -> None:
    """Editors and `cp` do not rename."""
    with vault_file(agent.directory).open("r+b") as file:
        text = json.dumps(make_vault(1)).encode()
        file.write(text[:20])
        file.flush()
        file.write(text[20:])
        file.truncate()

    wait_until(lambda: number_in(agent) == 1)


def test_a_file_behind_a_link_is_seen_by_the_safety_net(tmp_path: Path) -> None:
    """The kernel tells nothing about a file in another folder: there is a look now and then."""
    folder = copy_blabber(tmp_path)
    (folder / "config.yaml").write_text(EXPOSE)
    mount_vault(folder, "..2026_11_24", make_vault(0))
    with running_agent(folder) as agent:
        (folder / "secrets" / "..2026_11_24" / "vault.json").write_text(json.dumps(make_vault(1)))

        wait_until(lambda: number_in(agent) == 1)


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b'{"key": ', 0o600, "is not valid JSON"),
        (json.dumps({"key": "sk-one-two-three"}).encode(), 0o600, "does not have: db.password"),
        (json.dumps(make_vault(1)).encode(), 0o644, "open to every user"),
        (b"x" * 1024 * 1024 + b"x", 0o600, "over 1048576 bytes"),
    ],
)
def test_a_bad_new_vault_keeps_the_old_values_and_says_so_once(
    agent: RunningAgent, content: bytes, mode: int, reason: str
) -> None:
    """A typo at night must not take down what runs; it must be seen in the morning."""
    put_vault(agent.directory, content, mode)
    wait_until(lambda: vault_status(agent)["error"] is not None)

    assert reason in vault_status(agent)["error"]
    assert number_in(agent) == 0
    put_vault(agent.directory, make_vault(2))
    wait_until(lambda: number_in(agent) == 2)
    assert (vault_status(agent)["error"], vault_status(agent)["generation"]) == (None, 2)
    (refusal,) = events_of(agent, "vault_not_reloaded")
    assert reason in refusal["reason"]
    assert refusal["level"] == "error"


def test_a_deleted_vault_keeps_the_old_values_until_it_is_back(agent: RunningAgent) -> None:
    """A volume that is unmounted for a moment must cost no request."""
    vault_file(agent.directory).unlink()
    vault_file(agent.directory).parent.rmdir()
    wait_until(lambda: vault_status(agent)["error"] is not None)

    assert "there is no secrets/vault.json" in vault_status(agent)["error"]
    assert vault_status(agent)["present"]
    assert number_in(agent) == 0
    put_vault(agent.directory, make_vault(0))
    wait_until(lambda: vault_status(agent)["error"] is None)
    assert vault_status(agent)["generation"] == 1
    assert len(events_of(agent, "vault_recovered")) == 1
    put_vault(agent.directory, make_vault(1))
    wait_until(lambda: number_in(agent) == 1)


def test_a_vault_that_appears_is_taken(tmp_path: Path) -> None:
    """Only what is exposed or required must be there at the start."""
    folder = copy_blabber(tmp_path)
    with running_agent(folder) as agent:
        assert not vault_status(agent)["present"]
        loaded = Path(f"/proc/{agent.pid}/maps").read_text()
        assert "_rust_notify" not in loaded, "an agent without secrets pays for watchfiles"
        put_vault(folder, make_vault(1))

        wait_until(lambda: bool(vault_status(agent)["present"]))
        assert "key" not in vault_status(agent)["exposed"]


def test_a_new_worker_gets_the_new_values(agent: RunningAgent) -> None:
    """After a crash the WELCOME must not bring back what was rotated away."""
    put_vault(agent.directory, make_vault(1))
    wait_until(lambda: number_in(agent) == 1)
    before = agent.call("current")["pid"]

    assert agent.post("/v1/capabilities/crash", {}).status == 502
    wait_until(lambda: agent.status()["workers"]["ready"] == 1)

    after = agent.call("current")
    assert after["pid"] != before
    assert (after["number"], after["told"]) == ("1", [])


def test_a_rotated_token_is_taken_and_the_old_one_is_not_cut_off_at_once(tmp_path: Path) -> None:
    """Callers get the new one at different times."""
    folder = copy_blabber(tmp_path)
    put_vault(folder, {"agent_token": TOKENS[0]})
    with running_agent(folder) as agent:
        headers = [{"Authorization": f"Bearer {token}"} for token in TOKENS]
        assert [agent.get("/status", headers=each).status for each in headers] == [200, 401]
        put_vault(folder, {"agent_token": TOKENS[1]})

        wait_until(lambda: agent.get("/status", headers=headers[1]).status == 200)
        assert agent.get("/status", headers=headers[0]).status == 200
        put_vault(folder, {"other": "x"})
        wait_until(lambda: bool(events_of(agent, "vault_not_reloaded")))
        assert agent.get("/status", headers=headers[1]).json()["vault"]["error"] == (
            "agent_token is gone from secrets/vault.json"
        )


@pytest.mark.parametrize(
    "times", [100, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_a_vault_that_is_replaced_again_and_again_costs_no_request(
    agent: RunningAgent, times: int
) -> None:
    """The last value arrives, every request on the way is served, and nothing is left over."""
    descriptors = count(agent, "fd")
    threads = count(agent, "task")
    done = threading.Event()
    failures: list[BaseException] = []
    served = 0

    def load() -> None:
        nonlocal served
        try:
            while not done.is_set():
                agent.call("current")
                served += 1
        except BaseException as exc:  # noqa: BLE001 - raised again below, in the test's thread
            failures.append(exc)

    caller = threading.Thread(target=load)
    caller.start()
    for number in range(1, times + 1):
        if number % 10 == 5:
            vault_file(agent.directory).unlink()
        elif number % 10 == 8:
            put_vault(agent.directory, b"{")
        put_vault(agent.directory, make_vault(number))
        before = served
        wait_until(lambda before=before: served > before or bool(failures))  # type: ignore[misc]
    wait_until(lambda: number_in(agent) == times)
    wait_until(lambda: agent.call("current")["told"][-1] == str(times))
    done.set()
    caller.join()

    assert not failures
    assert served >= times
    part = vault_status(agent)
    assert part["error"] is None
    assert 2 <= part["generation"] <= times + 1
    agent.call("blab")
    assert make_vault(times)["db"]["password"] not in agent.log_text
    assert count(agent, "fd") <= descriptors + 10
    assert count(agent, "task") <= threads + 10
