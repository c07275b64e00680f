"""Which changes of the configuration take effect without a restart."""

from __future__ import annotations

from typing import Any

import pytest

from kagent_sdk.config.keys import known_keys
from kagent_sdk.config.models import AgentConfig
from kagent_sdk.host.reconfiguration import LIVE_KEYS, Reconfiguration, is_live, reconfigure

PRESENT: dict[str, Any] = {"name": "shop", "tasks": {"max_queue": 5}}
TLS = {"certificate": "a.pem", "key": "b.pem"}


def config_of(**changes: Any) -> AgentConfig:
    """Return the present configuration with other sections."""
    return AgentConfig.model_validate(PRESENT | changes)


def test_nothing_changes_when_nothing_was_changed() -> None:
    """A reload for new code alone."""
    present = config_of()

    assert reconfigure(present, config_of()) == Reconfiguration(present)


def test_live_keys_change_and_are_named() -> None:
    """The caller of a reload wants to know what it did."""
    wanted = config_of(
        description="new",
        worker={"count": 2, "threads": 3},
        tasks={"max_queue": 6},
        logs={"level": "debug"},
        secrets={"expose": ["db"]},
        orchestrator={"labels": {"zone": "b"}},
    )
    plan = reconfigure(config_of(), wanted)

    assert plan.config == wanted
    assert set(plan.changed) == {
        "description",
        "worker.count",
        "worker.threads",
        "tasks.max_queue",
        "logs.level",
        "secrets.expose",
        "orchestrator.labels",
    }
    assert plan.needs_restart == ()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"name": "other"}, "name"),
        ({"http": {"port": 9}}, "http.port"),
        ({"http": {"tls": TLS}}, "http.tls"),
        ({"secrets": {"file": "other.json"}}, "secrets.file"),
        ({"orchestrator": {"url": "http://o.example"}}, "orchestrator.url"),
        ({"orchestrator": {"required": True}}, "orchestrator.required"),
        ({"worker": {"command": ["sleep", "9"]}}, "worker.command"),
    ],
)
def test_what_is_fixed_at_the_start_is_named_and_stays(changes: dict[str, Any], key: str) -> None:
    """A socket that is open and a name that was announced do not change; silence would be a lie."""
    plan = reconfigure(config_of(), config_of(**changes))

    assert plan.needs_restart == (key,)
    assert plan.changed == ()
    assert plan.config == config_of()


def test_a_section_that_goes_is_one_change() -> None:
    """TLS that was there and is there no more."""
    plan = reconfigure(config_of(http={"tls": TLS}), config_of())

    assert plan.needs_restart == ("http.tls",)
    assert plan.config.http.tls is not None


def test_a_nested_section_is_compared_key_by_key() -> None:
    """Only what differs is told."""
    plan = reconfigure(
        config_of(http={"tls": TLS}), config_of(http={"tls": TLS | {"key": "c.pem"}})
    )

    assert plan.needs_restart == ("http.tls.key",)


def test_both_kinds_of_change_go_their_ways() -> None:
    """One file, one reload: half of it must not hold up the other half."""
    wanted = config_of(tasks={"max_queue": 9}, http={"port": 9})
    plan = reconfigure(config_of(), wanted)

    assert (plan.changed, plan.needs_restart) == (("tasks.max_queue",), ("http.port",))
    assert plan.config == config_of(tasks={"max_queue": 9})


def test_every_live_key_is_one_that_exists() -> None:
    """A key that is renamed must not fall out of the list unnoticed."""
    assert set(known_keys()) >= LIVE_KEYS


def test_what_nobody_thought_of_needs_a_restart() -> None:
    """A key of a later version is told as needing a restart rather than silently ignored."""
    assert not is_live(("brand", "new"))
    assert is_live(("worker", "brand_new"))


def test_another_program_may_follow_a_program() -> None:
    """A new version of it has other arguments."""
    present = config_of(worker={"command": ["serve", "--v1"]})
    plan = reconfigure(present, config_of(worker={"command": ["serve", "--v2"]}))

    assert plan.config.worker.command == ("serve", "--v2")
    assert plan.needs_restart == ()


def test_durability_needs_a_restart_unlike_the_rest_of_its_section() -> None:
    """The database is open: an agent that claims another durability would lie."""
    plan = reconfigure(config_of(), config_of(tasks={"max_queue": 6, "durability": "none"}))

    assert plan.config.tasks.durability == "process"
    assert plan.changed == ("tasks.max_queue",)
    assert plan.needs_restart == ("tasks.durability",)
