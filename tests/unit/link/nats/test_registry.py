"""What the registry says of agents, and which one gets a task."""

from __future__ import annotations

from typing import Any

from kagent_sdk.link.nats.registry import choose, entry
from kagent_sdk.protocol.link import AgentLimits, Held, Registration, ShortStatus
from kagent_sdk.protocol.manifest import CapabilityManifest


def agent(name: str, *, working: int = 0, ready: bool = True, **members: Any) -> Registration:
    """Return an agent that offers ``echo`` and takes four tasks at a time."""
    echo = CapabilityManifest(
        name="echo", description="x" * 5000, input_schema={"title": "y"}, output_schema={}
    )
    status = ShortStatus(lifecycle="ready", ready=ready, working=working)
    return Registration(
        agent=name,
        instance="i" * 16,
        version="1",
        sdk_version="1",
        delivery="pull",
        token="secret-token",  # noqa: S106 - a made up one
        capabilities=(echo,),
        limits=AgentLimits(max_concurrency=4, max_queue=0),
        status=status,
        tasks=(Held(task="t", lease="l" * 16),),
        **members,
    )


def test_the_least_loaded_agent_gets_the_task() -> None:
    """Work goes where there is room."""
    busy, idle, asleep = agent("busy", working=3), agent("idle"), agent("asleep", ready=False)

    assert choose([busy, idle, asleep], "echo", {}, 0.99) == "idle"
    assert choose([busy, asleep], "echo", {}, 0.0) == "busy"
    assert choose([asleep], "echo", {}, 0.0) == "asleep"


def test_labels_and_capability_must_fit() -> None:
    """A caller that asks for a region must not get another one."""
    here = agent("here", labels={"region": "eu", "tier": "gold"})

    assert choose([here], "echo", {"region": "eu"}, 0.0) == "here"
    assert choose([here], "echo", {"region": "us"}, 0.0) is None
    assert choose([here], "other", {}, 0.0) is None


def test_equals_share_the_work() -> None:
    """Each of them is chosen, by the number that is handed in."""
    agents = [agent("one"), agent("two")]

    assert [choose(agents, "echo", {}, tie) for tie in (0.0, 0.6, 1.0)] == ["one", "two", "two"]


def test_an_entry_holds_no_secret_and_no_tasks() -> None:
    """Everybody who calls agents may read it."""
    body = entry(agent("one"))

    assert b"secret-token" not in body
    assert Registration.model_validate_json(body).tasks == ()


def test_an_entry_that_is_too_large_goes_without_schemas() -> None:
    """An agent of a thousand capabilities must still be found."""
    body = entry(agent("one"), max_bytes=2000)

    assert len(body) < 2000
    assert Registration.model_validate_json(body).capabilities[0].name == "echo"
