"""The /status document."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from kagent_sdk.host.lifecycle import LifecycleState
from kagent_sdk.protocol.status import (
    AgentInfo,
    HealthInfo,
    Lifecycle,
    LifecycleInfo,
    LoopInfo,
    ProcessInfo,
    StalledWorker,
    Status,
    VaultInfo,
)

NOW = datetime(2026, 11, 23, 17, 50, 0, 123456, tzinfo=UTC)


def make_status(**parts: Any) -> Status:
    """Return a document with what is required, and the given parts."""
    return Status(
        agent=AgentInfo(
            name="hello",
            version="1.0",
            sdk_version="0.1.0",
            python_version="3.11.7",
            started_at=NOW,
            uptime_s=1.5,
        ),
        lifecycle=LifecycleInfo(state="ready", since=NOW),
        health=HealthInfo(live=True, ready=True),
        **parts,
    )


def test_what_is_not_known_is_null() -> None:
    """A dashboard must not draw zero memory where nobody measured."""
    document = json.loads(
        make_status(processes=(ProcessInfo(role="worker", state="ready"),)).model_dump_json()
    )
    (worker,) = document["processes"]
    unknown = {name for name, value in worker.items() if value is None}

    assert unknown >= {"rss_bytes", "pss_bytes", "cpu_percent", "threads", "fds", "lag_ms", "pid"}
    assert document["resources"]["memory_limit_bytes"] is None
    assert document["resources"]["oom_kills"] is None
    assert document["resources"]["pressure"]["memory"] is None
    assert document["workers"]["last_crash"] is None


def test_the_document_survives_the_wire() -> None:
    """The command line builds the same object from what the host sent."""
    status = make_status(
        loops=(LoopInfo(name="sweep", every_s=30, runs=3, worker=1),),
        vault=VaultInfo(present=True, exposed=("openai_api_key",)),
    )

    assert Status.model_validate_json(status.model_dump_json()) == status


def test_times_are_rfc_3339_in_utc() -> None:
    """Programs in other languages read them without guessing."""
    document = make_status().model_dump(mode="json")

    assert document["agent"]["started_at"] == "2026-11-23T17:50:00.123456Z"
    assert document["lifecycle"]["since"] == "2026-11-23T17:50:00.123456Z"


def test_a_time_without_a_zone_is_refused() -> None:
    """A local time in a status document misleads everybody who is elsewhere."""
    with pytest.raises(ValidationError, match="timezone"):
        LifecycleInfo(state="ready", since=datetime(2026, 1, 1))  # noqa: DTZ001 - the point


def test_members_of_a_newer_host_are_ignored() -> None:
    """An older `kos-agent status` still shows a newer agent."""
    document = make_status(
        loops=(LoopInfo(name="sweep"),),
        processes=(ProcessInfo(role="host", state="ready"),),
    ).model_dump(mode="json")
    document["added_later"] = {"state": "connected"}
    for part in (document["agent"], document["loops"][0], document["processes"][0]):
        part["added_later"] = 1

    assert Status.model_validate(document).loops[0].name == "sweep"


def test_a_document_without_the_optional_parts_is_read() -> None:
    """An older host leaves out what it does not know of."""
    document = make_status().model_dump(mode="json", include={"agent", "lifecycle", "health"})

    assert Status.model_validate(document) == make_status()


def test_the_vault_shows_no_place_for_a_value() -> None:
    """Names of keys may be seen, values never."""
    names = {"present", "exposed", "loaded_at", "generation", "error"}

    assert set(VaultInfo.model_fields) == names


def test_the_lifecycle_has_the_words_of_the_state_machine() -> None:
    """Two lists of states would drift apart."""
    assert get_args(Lifecycle) == tuple(LifecycleState)


def test_infinite_and_undefined_numbers_become_null() -> None:
    """`Infinity` is not JSON; a strict reader would refuse the whole document."""
    stalled = StalledWorker(index=0, silent_s=float("inf"), stuck=True)
    health = HealthInfo(live=True, ready=False, stalled=(stalled,))
    document = json.loads(health.model_dump_json(), parse_constant=pytest.fail)

    assert document["stalled"][0]["silent_s"] is None


def test_every_member_with_a_unit_or_a_twist_is_described() -> None:
    """`/openapi.json` is generated from this: a reader sees the descriptions and nothing else."""
    schema = Status.model_json_schema(mode="serialization")

    assert schema["$defs"]["ProcessInfo"]["properties"]["cpu_percent"]["description"]
    assert all(part.get("description") for part in schema["$defs"].values())
    assert set(schema["required"]) >= {"agent", "lifecycle", "health"}
