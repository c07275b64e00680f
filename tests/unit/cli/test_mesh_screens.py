"""Tests of what people see of a mesh: `kagent_sdk.cli.screens.mesh`, and what it adds to others."""

from __future__ import annotations

from typing import Any

import pytest

from kagent_sdk.cli.boundary import UnreachableError, UsageError
from kagent_sdk.cli.commands.capabilities import join_offers, pick
from kagent_sdk.cli.commands.status import is_live, render_status
from kagent_sdk.cli.screens.capabilities import capability_detail, capability_table
from kagent_sdk.cli.screens.mesh import mesh_screen
from kagent_sdk.cli.screens.tasks import task_detail, task_table
from kagent_sdk.protocol.mesh_status import MeshStatus
from tests.unit.cli.test_screens import EVIL, GREET, NOW, TASKS, shown

INSTANCE = "abcdefgh12345678"


def replica(**changes: Any) -> dict[str, Any]:
    """Return a replica that is well, but for the changes."""
    return {
        "instance": INSTANCE,
        "version": "1.0",
        "delivery": "push",
        "url": "http://127.0.0.1:4711",
        "lifecycle": "ready",
        "ready": True,
        **changes,
    }


def mesh(**changes: Any) -> dict[str, Any]:
    """Return the status of a mesh of one agent that is well, but for the changes."""
    return {
        "kind": "orchestrator",
        "orchestrator": {
            "id": "orchestrator-1",
            "sdk_version": "0.1.0",
            "python_version": "3.11.7",
            "pid": 41,
            "url": "http://127.0.0.1:8080",
            "uptime_s": 192,
            "rss_bytes": 41 << 20,
            "cpu_s": 3,
        },
        "health": {"live": True, "ready": True},
        "agents": [{"name": "hello", "capabilities": ["greet"], "replicas": [replica()]}],
        "capabilities": [{"name": "greet", "agents": ["hello"], "ready": 1}],
        "tasks": {"completed": 7},
        **changes,
    }


def screen(document: dict[str, Any], width: int = 100) -> str:
    """Return what a terminal shows of a status document."""
    return shown(mesh_screen(MeshStatus.model_validate(document)), width)


def test_a_mesh_that_is_well_is_told_on_one_screen() -> None:
    """Who is there, where, and how busy; nothing that stands out."""
    assert screen(mesh()).splitlines() == [
        "orchestrator  ● ready  up 3 min 12 s",
        "  kagent-sdk 0.1.0 · python 3.11.7 · pid 41 · http://127.0.0.1:8080",
        "",
        "  health     live and ready",
        "  agents     1 · 1 of 1 replicas ready",
        "  uses       41.0 MiB of memory · 3 s of cpu",
        "",
        "agents",
        "  AGENT  STATE  REPLICAS  WORKING  QUEUED  VERSION  ADDRESS",
        "  hello  ready    1 of 1        0       0  1.0      http://127.0.0.1:4711",
        "",
        "tasks",
        "  now        0 working · 0 queued",
        "  so far     7 completed · 0 failed · 0 canceled · 0 rejected",
        "",
        "  CAPABILITY  READY  WORKING  QUEUED  AGENTS",
        "  greet           1        0       0  hello",
    ]


def test_replicas_of_one_agent_have_lines_of_their_own() -> None:
    """They are not alike: one has another version, one is gone, one asks for its tasks itself."""
    replicas = [
        replica(working=2, max_concurrency=4),
        replica(instance="lost567890123456", version="1.1", state="lost", heard_s=32, working=1),
        replica(instance="pull567890123456", delivery="pull", url=None, queued=3),
    ]
    text = screen(mesh(agents=[{"name": "hello", "replicas": replicas}], lost_agents=1))

    assert "  agents     1 · 2 of 3 replicas ready · 1 lost so far" in text
    start = text.splitlines().index("agents") + 1
    assert text.splitlines()[start : start + 5] == [
        "  AGENT       STATE  REPLICAS  WORKING  QUEUED  VERSION   ADDRESS",
        "  hello                2 of 3        3       3  1.0, 1.1",
        "    abcdefgh  ready                  2       0  1.0       http://127.0.0.1:4711",
        "    lost5678  lost                   1       0  1.1       http://127.0.0.1:4711",
        "    pull5678  ready                  0       3  1.0       pull",
    ]


def test_problems_come_first() -> None:
    """Who looks because something is wrong should not have to search for it."""
    agents = [
        {"name": "gone", "replicas": []},
        {
            "name": "hello",
            "replicas": [
                replica(),
                replica(instance="lost567890123456", state="lost", heard_s=32),
                replica(instance="full567890123456", ready=False, reason="full"),
                replica(instance="left567890123456", ready=False, state="draining"),
            ],
        },
    ]
    text = screen(
        mesh(agents=agents, capabilities=[{"name": "digest", "agents": ["gone"], "queued": 4}])
    )

    start = text.splitlines().index("problems") + 1
    assert text.splitlines()[start : start + 5] == [
        "  gone  no replica is ready",
        "  hello lost5678  lost, silent for 32 s",
        "  hello full5678  not ready: full",
        "  digest  4 tasks wait for a ready replica",
        "",
    ]
    assert text.index("problems") < text.index("agents\n  AGENT")


def test_tasks_that_were_offered_again_are_told() -> None:
    """Retries cost time, and somebody may wonder where it went."""
    tasks = {"queued": 3, "oldest_queued_s": 12, "retries": 2, "lost_leases": 2}
    text = screen(mesh(tasks={**tasks, "refused_reports": 1}))

    assert "now        0 working · 3 queued (for 12 s)" in text
    assert "retries    2 leases lost · 2 offered again · 1 late reports refused" in text


def test_an_orchestrator_without_agents_says_so() -> None:
    """An empty table would look like a mistake of the screen."""
    assert "agents\n  none has registered" in screen(mesh(agents=[], capabilities=[]))


def test_agents_that_it_has_started_are_told_with_what_is_wrong() -> None:
    """One that does not come up never registers: only who starts it knows why."""
    replicas = [
        {"replica": 0, "state": "ready", "reason": None, "restarts": 0},
        {
            "replica": 1,
            "state": "waiting",
            "reason": "exit code 78",
            "retry_in_s": 4,
            "restarts": 3,
        },
    ]
    hello = {"agent": "hello", "driver": "process", "release": "r2", "ready": 1}
    update = {"kind": "update", "state": "failed", "reason": "r3 did not become ready"}
    text = screen(mesh(fleet={"agents": [{**hello, "replicas": replicas, "operation": update}]}))

    assert text.split("problems\n")[1].splitlines()[:2] == [
        "  hello/1  waiting: exit code 78; starts again in 4 s",
        "  hello  update failed: r3 did not become ready",
    ]
    assert text.split("started here\n")[1].splitlines()[:2] == [
        "  AGENT  DRIVER    READY  RESTARTS  RELEASE",
        "  hello  process  1 of 2         3  r2",
    ]
    update["state"] = "running"
    assert "r2       update is going on" in screen(
        mesh(fleet={"agents": [{**hello, "replicas": replicas, "operation": update}]})
    )


@pytest.mark.parametrize(
    "replicas", [2, None, "x", [1, {"state": EVIL, "reason": EVIL, "retry_in_s": float("nan")}]]
)
def test_a_fleet_of_another_version_is_shown_as_far_as_it_can_be(replicas: object) -> None:
    """It is not trusted, and it may tell less."""
    text = screen(mesh(fleet={"agents": [{"agent": EVIL, "ready": 2, "replicas": replicas}, 3]}))

    assert "started here" in text
    assert "\x1b" not in text


def test_a_mesh_fits_into_eighty_columns() -> None:
    """The most common terminal."""
    assert max(map(len, screen(mesh(), 80).splitlines())) <= 80


def test_nothing_of_a_mesh_reaches_the_terminal_raw() -> None:
    """Names and reasons come from agents that may be anybody's."""
    agents = [
        {"name": EVIL, "replicas": [replica(version=EVIL, reason=EVIL, ready=False, url=EVIL)]}
    ]

    assert "\x1b" not in screen(mesh(agents=agents, capabilities=[{"name": EVIL, "queued": 1}]))


def test_the_status_command_tells_a_mesh_from_an_agent() -> None:
    """One command for both: the document says what it is."""
    assert "kagent-sdk 0.1.0 · python 3.11.7 · pid 41" in shown(render_status(mesh()), 100)
    assert is_live(mesh())
    assert not is_live(mesh(health={"live": False, "ready": False}))
    with pytest.raises(
        UnreachableError, match=r"cannot read .* status \(kind\); see it with --json"
    ):
        render_status(mesh(kind="swarm"))


def test_tasks_of_a_mesh_say_which_agent_has_them() -> None:
    """Among several that could."""
    tasks = [{**TASKS[0], "agent": None}, {**TASKS[1], "agent": "hello"}]

    assert shown(task_table(tasks, NOW), 100).splitlines() == [
        "TASK    CAPABILITY  AGENT  STATE    AGE             TOOK",
        "call-1  greet       -      working  5 s ago          4 s  50 %  halfway",
        "call-0  greet       hello  failed   1 min 40 s ago   2 s  quota  no more",
    ]
    assert "agent       hello" in shown(task_detail(tasks[1], NOW))


def test_capabilities_of_a_mesh_say_who_offers_them() -> None:
    """The name before the slash, for who wants one of them."""
    found = [{**GREET, "agents": ["hello", "world"]}]

    assert shown(capability_table(found), 100).splitlines() == [
        "CAPABILITY  AGENTS        TAKES         GIVES     DESCRIPTION",
        "greet       hello, world  name [count]  Greeting  Greet somebody.",
    ]
    assert "demo · of hello, world" in shown(capability_detail(found[0]), 130)


def test_what_several_agents_offer_alike_is_one_capability() -> None:
    """Who describes it in another way may take something else, and stands apart."""
    other = {**GREET, "description": "Say hello."}
    found = [
        {**GREET, "agent": "hello"},
        {**other, "agent": "rude"},
        {**GREET, "agent": "world"},
    ]

    assert join_offers(found) == [
        {**GREET, "agents": ["hello", "world"]},
        {**other, "agents": ["rude"]},
    ]
    assert join_offers([GREET]) == [GREET]


def test_a_capability_of_a_mesh_is_found_by_its_agent_too() -> None:
    """As it is called."""
    found = [{**GREET, "agents": ["hello", "world"]}]

    assert pick(found, "greet")["name"] == "greet"
    assert "kos-agent call world/greet name=NAME" in shown(
        capability_detail(pick(found, "world/greet"))
    )
    with pytest.raises(UsageError, match="did you mean 'hello/greet'"):
        pick(found, "helo/greet")


def test_a_mesh_over_nats_says_where_its_tasks_go() -> None:
    """Not that no agent has registered: they do, elsewhere."""
    text = screen(mesh(agents=[], fleet={"agents": [], "link": "nats://there:4222"}))

    assert "tasks go through nats://there:4222" in text
    assert "none has registered" not in text
