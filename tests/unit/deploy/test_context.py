"""What of an agent's folder reaches an engine, and so can be in an image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kagent_sdk.config import AgentConfig
from kagent_sdk.deploy.build import Build, build_command, dockerfile_text
from kagent_sdk.deploy.context import find_dockerfile, find_exclusions, plain_rules, stage
from kagent_sdk.deploy.deployment import describe
from kagent_sdk.deploy.settings import Settings
from kagent_sdk.errors import DeployError


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """Return an agent's folder with an entrypoint."""
    folder = tmp_path / "agent"
    folder.mkdir()
    put(folder, "entrypoint.py")
    return folder


def put(folder: Path, *names: str) -> None:
    """Write files, and the folders that they are in."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")


def staged(folder: Path, token_file: str | None = None, **sections: Any) -> set[str]:
    """Return the files and links that an engine would see."""
    config = AgentConfig.model_validate(sections)
    target = folder.parent / "context"
    stage(folder, target, find_exclusions(folder, config, token_file))
    return {
        str(path.relative_to(target))
        for path in target.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


def test_code_and_data_are_copied(agent: Path) -> None:
    """All that is not known to be something else is the agent's."""
    put(agent, "config.yaml", "package/module.py", "package/secrets/code.py", "model.bin")

    assert staged(agent) == {
        "config.yaml",
        "entrypoint.py",
        "model.bin",
        "package/module.py",
        "package/secrets/code.py",
    }


@pytest.mark.parametrize(
    "name",
    [
        "secrets/vault.json",
        "runtime/journal.db",
        "logs/runtime.log",
        ".git/config",
        "lib/.git",
        ".env",
        ".venv/bin/python",
        "venv/bin/python",
        "package/__pycache__/module.cpython-311.pyc",
        "module.pyc",
        ".pytest_cache/README.md",
        "snapshots/a.tar.zst",
    ],
)
def test_what_is_never_in_an_image(agent: Path, name: str) -> None:
    """An image goes to a registry: what is in it is known to all who can pull it."""
    put(agent, name)
    put(agent, ".dockerignore")
    (agent / ".dockerignore").write_text(f"!{name}\n!**\n")

    assert staged(agent, snapshots={"destination": "snapshots"}) == {
        ".dockerignore",
        "entrypoint.py",
    }


def test_an_environment_is_known_by_its_mark(agent: Path) -> None:
    """It may have any name; what it holds is of this machine."""
    put(agent, "python311/pyvenv.cfg", "python311/lib/a.py")

    assert staged(agent) == {"entrypoint.py"}


def test_secrets_stay_out_under_any_name(agent: Path) -> None:
    """The vault where config.yaml has it, the key of TLS, the token, and other names of the same files."""
    put(agent, "conf/vault.json", "conf/app.ini", "tls/key.pem", "tls/certificate.pem", "token")
    put(agent, "link/key.pem")
    (agent / "again.pem").hardlink_to(agent / "link/key.pem")
    (agent / "again.json").hardlink_to(agent / "conf/vault.json")
    (agent / "key").symlink_to("tls/key.pem")
    found = staged(
        agent,
        str(agent / "token"),
        secrets={"file": "conf/vault.json"},
        http={"tls": {"certificate": "tls/certificate.pem", "key": "tls/key.pem"}},
        orchestrator={"tls": {"certificate": "tls/certificate.pem", "key": "link/key.pem"}},
    )

    assert not {name for name in found if name.startswith(("conf/vault", "tls/key"))}
    assert not {"again.json", "again.pem", "link/key.pem"} & set(found)
    assert "token" not in found
    assert "key" in found  # a link that leads to nothing, in the image


def test_a_vault_behind_a_link_stays_out(agent: Path) -> None:
    """The folder of secrets may be a link to another folder of the agent's."""
    put(agent, "keys/vault.json")
    (agent / "secrets").symlink_to("keys")

    assert staged(agent) == {"entrypoint.py"}


def test_links_are_copied_as_links(agent: Path, tmp_path: Path) -> None:
    """What lies outside the folder does not come in by a link to it."""
    put(tmp_path, "outside/secret")
    (agent / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(agent / "pipe")

    assert staged(agent) == {"entrypoint.py", "link"}
    assert (tmp_path / "context" / "link").readlink() == tmp_path / "outside"


def test_everything_can_be_read_by_the_agents_user(agent: Path, tmp_path: Path) -> None:
    """A umask of 077 on the author's machine would be an agent that cannot read its code."""
    put(agent, "run", "package/module.py")
    (agent / "entrypoint.py").chmod(0o600)
    (agent / "run").chmod(0o700)
    (agent / "package").chmod(0o700)
    os.utime(agent / "run", (1, 1))
    staged(agent)

    modes = {
        name: (tmp_path / "context" / name).stat().st_mode & 0o7777
        for name in ("", "entrypoint.py", "run", "package")
    }
    assert modes == {"": 0o755, "entrypoint.py": 0o644, "run": 0o755, "package": 0o755}
    assert (tmp_path / "context" / "run").stat().st_mtime == 1


def test_a_copy_into_the_folder_itself_ends(agent: Path) -> None:
    """TMPDIR may be there."""
    put(agent, "a/b")
    config = AgentConfig()
    left_out = stage(agent, agent / "z", find_exclusions(agent, config))

    assert (agent / "z/a/b").exists()
    assert left_out == ("z",)


def test_what_cannot_be_copied_is_named(agent: Path) -> None:
    """A folder that is there already is not written over."""
    (agent.parent / "context").mkdir()

    with pytest.raises(DeployError, match=r"cannot copy .*context: File exists"):
        staged(agent)


def test_plain_rules_spare_the_copying() -> None:
    """A folder of models may be larger than the disk for the copy; patterns are the engine's."""
    assert plain_rules("# models\nmodels/\n\n/data\n*.bin\n") == ["models", "data"]
    assert plain_rules("models\n!models/small\n") == []


def test_what_the_author_ignores_is_not_copied(agent: Path) -> None:
    """But what the engine reads itself is."""
    put(agent, "models/large", "Dockerfile", ".dockerignore")
    (agent / ".dockerignore").write_text("models\nDockerfile\n")

    assert staged(agent) == {".dockerignore", "Dockerfile", "entrypoint.py"}
    assert find_dockerfile(agent) == "Dockerfile"


@pytest.mark.parametrize("content", [b"#" * (1024 * 1024) + b"\nmodels\n", b"\xff\n"])
def test_a_strange_file_of_rules_is_the_engines(agent: Path, content: bytes) -> None:
    """It is only an aid; what counts never depends on it."""
    put(agent, "models/large")
    (agent / ".dockerignore").write_bytes(content)

    assert "models/large" in staged(agent)


def test_podmans_own_file_of_rules_is_left_to_it(agent: Path) -> None:
    """Docker reads the other one: none of both is followed here."""
    put(agent, "models/large", ".containerignore")
    (agent / ".dockerignore").write_text("models\n")

    assert "models/large" in staged(agent)


def test_a_dockerfile_is_three_lines() -> None:
    """Requirements first: a change of the code installs nothing anew."""
    lines = dockerfile_text("kos/agent-base", b"httpx\n").splitlines()

    assert [line.split()[0] for line in lines] == ["FROM", "RUN", "COPY"]
    assert "RUN" not in dockerfile_text("kos/agent-base")
    assert find_dockerfile(Path("/nowhere")) is None


def test_changed_requirements_are_another_step() -> None:
    """Buildah would take the step for done: what it mounts does not count."""
    before, after = (dockerfile_text("base", text) for text in (b"httpx==1\n", b"httpx==2\n"))

    assert before.splitlines()[1] != after.splitlines()[1]


@pytest.mark.parametrize(("engine", "has_format"), [("podman", True), ("docker", False)])
def test_an_engine_is_told_name_labels_and_folder(engine: str, *, has_format: bool) -> None:
    """OCI's format has no HEALTHCHECK, and Docker knows no other than its own."""
    deployment = describe(AgentConfig.model_validate({"name": "a"}), "a", Settings())
    words = build_command(deployment, Build(engine, "/c", "/f", "none"))

    assert words[:2] == [engine, "build"]
    assert words[-1] == "/c"
    assert ("--format=docker" in words) is has_format
    assert {
        "--file=/f",
        "--tag=a:0.1.0",
        "--label=io.kos.agent=a",
        "--label=org.opencontainers.image.version=0.1.0",
        "--network=none",
    } <= set(words)
    assert not [
        word for word in build_command(deployment, Build(engine, "/c", "/f")) if "network" in word
    ]
