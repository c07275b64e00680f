"""mesh.yaml: what it takes, and what it says of what it does not take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kagent_sdk.config.mesh import make_mesh, read_mesh
from kagent_sdk.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with two agents in it."""
    for name in ("hello", "triage"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "entrypoint.py").touch()
    return tmp_path


def read(folder: Path, text: str) -> str:
    """Return what is wrong with a mesh.yaml."""
    (folder / "mesh.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_mesh(folder / "mesh.yaml")
    return str(caught.value)


def test_a_mesh_says_everything_by_default_but_the_paths_of_its_agents(folder: Path) -> None:
    """The smallest file that works is two lines."""
    (folder / "mesh.yaml").write_text("agents:\n  hello: {path: ./hello}\norchestrator:\n")
    mesh = read_mesh(folder / "mesh.yaml")
    agent = mesh.config.agents["hello"]

    assert mesh.path_of("hello") == folder / "hello"
    assert (agent.replicas, agent.driver, agent.delivery) == (1, "process", "push")
    assert mesh.config.orchestrator.host == "127.0.0.1"


def test_overrides_become_variables_as_the_environment_has_them(folder: Path) -> None:
    """YAML has numbers and truth values, and the environment only text."""
    (folder / "mesh.yaml").write_text(
        "agents:\n  hello:\n    path: hello\n"
        "    env: {AGENT_TASKS__MAX_QUEUE: 3, AGENT_WORKER__NOTIFY: true, AGENT_LOGS__LEVEL: debug}\n"
    )
    agent = read_mesh(folder / "mesh.yaml").config.agents["hello"]

    assert agent.variables() == {
        "AGENT_TASKS__MAX_QUEUE": "3",
        "AGENT_WORKER__NOTIFY": "true",
        "AGENT_LOGS__LEVEL": "debug",
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "agents:\n  hello: {pth: hello, path: hello}",
            "mesh.yaml:2: agents.hello.pth: unknown key; did you mean path?",
        ),
        (
            "agents:\n  hello:\n    path: hello\n    replicas: two",
            'mesh.yaml:4: agents.hello.replicas: should be a valid integer (is "two")',
        ),
        (
            "agents: {hello: {path: hello}}\norchestrator:\n  prt: 1",
            "mesh.yaml:3: orchestrator.prt: unknown key; did you mean port?",
        ),
        (
            "agents: {hello: {path: hello}}\nreplicas: 1",
            "mesh.yaml:2: replicas: unknown key; it belongs below agents",
        ),
        ("agents:\n  hello: {path: gone}", "mesh.yaml:2: agents.hello.path: there is no folder"),
        (
            "agents:\n  hello: {path: hello, env: {AGENT_TASKS__MAX_QUEU: 1}}",
            (
                "AGENT_TASKS__MAX_QUEU overrides no key of config.yaml; did you mean "
                "AGENT_TASKS__MAX_QUEUE?"
            ),
        ),
        (
            "agents:\n  hello: {path: hello, env: {AGENT_HTTP__PORT: 1}}",
            "AGENT_HTTP__PORT is set by the mesh itself; leave it out",
        ),
        (
            "agents:\n  hello: {path: hello, env: {PATH: /bin}}",
            "PATH overrides no key of config.yaml",
        ),
        (
            "agents:\n  hello: {path: hello, driver: container}",
            "mesh.yaml:2: agents.hello: driver: container needs network",
        ),
        (
            "agents:\n  hello: {path: hello, network: x}",
            "mesh.yaml:2: agents.hello: network and image are for driver: container",
        ),
        (
            "agents:\n  hello: {path: hello, driver: container, network: x}",
            "hello is in a container, where 127.0.0.1 is another place",
        ),
        ("agents: {-hello: {path: hello}}", "mesh.yaml:1: agents.-hello: is no name"),
        (
            "agents: {hello: {path: hello, labels: {a b: c}}}",
            "agents.hello.labels.a b: is no label",
        ),
        ("agents: {hello: {path: hello}}\nagents: {}", "agents: is there twice, first on line 1"),
        (
            "agents:\n  hello: {path: hello, env: {AGENT_LOGS__LEVEL: [debug]}}",
            "AGENT_LOGS__LEVEL: should be text, a number, or true or false",
        ),
        ("agents:", "agents: is missing: name one agent at least"),
        ("", "agents: is missing"),
        ("- hello", "mesh.yaml:1: should be a mapping of keys"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_the_way_out(
    folder: Path, text: str, line: str
) -> None:
    """Whoever writes the file must not have to guess."""
    assert line in read(folder, text)


def test_everything_that_is_wrong_is_told_at_once_and_in_the_order_of_the_file(
    folder: Path,
) -> None:
    """One error after the other would be one start after the other."""
    text = (
        "agents:\n  hello: {path: hello, x: 1}\n  triage: {replicas: -1}\norchestrator: {port: x}\n"
    )
    lines = read(folder, text).splitlines()

    assert [line.split(":")[1] for line in lines] == ["2", "3", "3", "4"]


def test_a_password_in_a_link_is_not_shown(folder: Path) -> None:
    """Error messages end up in logs."""
    text = "agents: {hello: {path: hello}}\norchestrator: {link: 'nats://ada:hunter2@host'}\n"
    told = read(folder, text)

    assert "orchestrator.link: should be a URL such as nats://HOST:PORT" in told
    assert "hunter2" not in told


def test_folders_make_a_mesh_of_agents_under_the_names_of_their_config(folder: Path) -> None:
    """Without a mesh.yaml the agents are called what they call themselves."""
    (folder / "hello" / "config.yaml").write_text("name: greeter\n")
    mesh = make_mesh([folder / "hello", folder / "triage"], {}, folder)

    assert list(mesh.config.agents) == ["greeter", "triage"]
    assert mesh.path_of("greeter") == folder / "hello"


def test_two_folders_with_one_name_are_refused(folder: Path) -> None:
    """One of them would be quietly left out."""
    for name in ("hello", "triage"):
        (folder / name / "config.yaml").write_text("name: same\n")
    with pytest.raises(ConfigError, match="there is an agent 'same' already"):
        make_mesh([folder / "hello", folder / "triage"], {}, folder)


def test_what_is_wrong_in_a_folder_is_told_with_the_folder(folder: Path) -> None:
    """One of many may be wrong: all of its lines must say which."""
    (folder / "triage" / "config.yaml").write_text("nmae: x\ntasks: {max_queue: none}\n")
    with pytest.raises(ConfigError) as caught:
        make_mesh([folder / "hello", folder / "triage"], {}, folder)
    lines = str(caught.value).splitlines()

    assert len(lines) >= 2
    assert all(line.startswith(f"{folder / 'triage'}: ") for line in lines)


@pytest.mark.parametrize(
    ("written", "link"),
    [
        ("nats://h:4222/", "nats://h:4222"),
        ("tls://h:4222", "tls://h:4222"),
        ("null", None),
    ],
)
def test_tasks_may_go_through_nats(folder: Path, written: str, link: str | None) -> None:
    """The same agents, and another way."""
    (folder / "mesh.yaml").write_text(
        f"agents: {{hello: {{path: hello}}}}\norchestrator: {{link: {written}}}\n"
    )

    assert read_mesh(folder / "mesh.yaml").config.orchestrator.link == link


def test_a_link_that_is_none_is_refused(folder: Path) -> None:
    """Every agent would try it without end."""
    said = read(folder, "agents: {hello: {path: hello}}\norchestrator: {link: 'nats://h:99999'}\n")

    assert "should be a URL such as nats://HOST:PORT" in said


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Path.exists, "there is no such file"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: path.write_bytes(b"\xff"), "mesh.yaml"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    folder: Path, make: Callable[[Path], object], said: str
) -> None:
    """What the system says of it is not enough to find it."""
    make(folder / "mesh.yaml")
    with pytest.raises(ConfigError, match=said):
        read_mesh(folder / "mesh.yaml")
