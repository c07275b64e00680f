"""What a replica finds when it starts."""

from __future__ import annotations

from pathlib import Path

from kagent_sdk.config.mesh import MeshAgent
from kagent_sdk.orchestrator.fleet.layout import Layout
from kagent_sdk.orchestrator.fleet.workplace import LinkGrounds, environment_of

LINK = LinkGrounds("http://127.0.0.1:8080", "t" * 20)
SPEC = MeshAgent(
    path="agent", labels={"tier": "gold"}, env={"AGENT_TASKS__MAX_QUEUE": 3}, delivery="pull"
)


def test_a_replica_gets_what_the_mesh_says_and_nothing_that_belongs_to_others() -> None:
    """The orchestrator's own token in an agent's hands would make it an operator."""
    place = Layout(Path("/data")).place("steady", "0")
    environ = {
        "PATH": "/bin",
        "AGENT_LOGS__LEVEL": "debug",
        "AGENT_TASKS__MAX_QUEUE": "9",
        "AGENT_TOKEN_FILE": "/of/another",
        "AGENT_CONFIG": "other.yaml",
        "AGENT_ORCHESTRATOR__URL": "http://other",
        "AGENT_ORCHESTRATOR_TOKEN_FILE": "/of/another",
        "AGENT_HTTP__PORT": "80",
    }
    found = environment_of("steady", SPEC, place, LINK, environ)

    assert {name: found[name] for name in sorted(found)} == {
        "AGENT_HTTP__AUTH": "token",
        "AGENT_HTTP__HOST": "127.0.0.1",
        "AGENT_HTTP__PORT": "0",
        "AGENT_HTTP__TLS": "null",
        "AGENT_LOGS__LEVEL": "debug",
        "AGENT_LOGS__TEE": "none",
        "AGENT_NAME": "steady",
        "AGENT_ORCHESTRATOR_TOKEN_FILE": "/data/agents/steady/keys/0/link-token",
        "AGENT_ORCHESTRATOR__DELIVERY": "pull",
        "AGENT_ORCHESTRATOR__LABELS": '{"tier": "gold"}',
        "AGENT_ORCHESTRATOR__URL": "http://127.0.0.1:8080",
        "AGENT_SNAPSHOTS__DESTINATION": "/data/agents/steady/snapshots/0",
        "AGENT_TASKS__MAX_QUEUE": "3",
        "AGENT_TOKEN_FILE": "/data/agents/steady/keys/0/token",
        "PATH": "/bin",
    }


def test_tokens_do_not_show_in_what_a_log_might_print() -> None:
    """A repr in a traceback is how tokens get into logs."""
    assert "t" * 20 not in repr(LINK)
