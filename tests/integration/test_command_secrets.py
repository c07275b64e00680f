"""A program gets its secrets as files in memory, and nowhere else."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagent_sdk.errors import StartupError, VaultError
from kagent_sdk.host.secret_folder import SecretFolder, is_in_memory
from tests.agents import running_agent, start_agent
from tests.integration.programs import read_facts, write_program_agent

SECRETS = {"api_key": "s3cret-api-key", "db": {"user": "ada", "password": "s3cret-password"}}


@pytest.fixture
def memory() -> Iterator[Path]:
    """Return an empty folder on a tmpfs."""
    folder = Path("/dev/shm") / f"test-secrets-{os.getpid()}"  # noqa: S108 - that is the point
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_secrets_are_private_files_for_the_time_of_the_agent(tmp_path: Path) -> None:
    """An environment is readable in /proc, inherited, and printed by crash handlers."""
    folder = write_program_agent(tmp_path, "say:READY=1", secrets=SECRETS)
    with running_agent(folder) as agent:
        facts = read_facts(folder)
        place = Path(facts["environ"]["CREDENTIALS_DIRECTORY"])
        files = {path.name: path for path in place.iterdir()}
        process = Path("/proc") / str(facts["pid"])

        assert files["api_key"].read_text() == SECRETS["api_key"]
        assert json.loads(files["db"].read_text()) == SECRETS["db"]
        assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o400}
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
        assert place.stat().st_uid == os.geteuid()
        assert is_in_memory(place)
        for part in ("environ", "cmdline"):
            assert b"s3cret" not in (process / part).read_bytes()
        assert agent.stop() == 0
        assert not place.parent.exists()


def test_a_secret_does_not_get_into_the_status(tmp_path: Path) -> None:
    """A program may say in its status what it should not."""
    padding = "x" * 240  # what is cut must not be half a secret
    folder = write_program_agent(
        tmp_path, f"say:READY=1\nSTATUS=password {padding} s3cret-password", secrets=SECRETS
    )
    with running_agent(folder) as agent:
        assert "s3cret" not in agent.get("/status").body.decode()
        assert f"{padding} ***" in agent.status()["processes"][1]["status_text"]


def test_what_a_killed_host_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Secrets must not lie around for as long as the machine runs."""
    folder = write_program_agent(tmp_path, "say:READY=1", secrets=SECRETS)
    killed = start_agent(folder)
    try:
        killed.wait_ready()
        left = Path(read_facts(folder)["environ"]["CREDENTIALS_DIRECTORY"])
        killed.process.kill()
        killed.wait()
        assert (left / "api_key").exists()
    finally:
        killed.kill()

    with running_agent(folder):
        assert not left.parent.exists()


def test_a_name_that_is_no_file_stops_the_start(tmp_path: Path) -> None:
    """Two secrets in one file would be one secret lost."""
    folder = write_program_agent(tmp_path, secrets={"a/b": "one", "a_b": "two"})
    agent = start_agent(folder)

    assert agent.wait() == 78
    assert "a/b, a_b would be the same file" in agent.log_text


def test_new_secrets_replace_the_old_ones_as_a_whole(memory: Path) -> None:
    """Half of a rotation, a new user with the old password, is worse than none."""
    secrets = SecretFolder([memory])
    secrets.replace({"user": "ada", "password": "old"})
    place = secrets.path
    assert place is not None
    seen_before = place.resolve()
    secrets.replace({"user": "bob"})

    assert secrets.path == place
    assert [path.name for path in place.iterdir()] == ["user"]
    assert (place / "user").read_text() == "bob"
    assert not seen_before.exists()
    secrets.remove()
    secrets.remove()
    assert list(memory.iterdir()) == []


def test_secrets_that_cannot_be_written_leave_the_old_ones(memory: Path) -> None:
    """A rotation that fails must not take away what works."""
    secrets = SecretFolder([memory])
    secrets.replace({"user": "ada"})
    place = secrets.path
    assert place is not None
    with pytest.raises(VaultError):
        secrets.replace({"..": "x"})
    (place.parent / "2").mkdir()  # in its way
    with pytest.raises(StartupError, match="cannot write the secrets"):
        secrets.replace({"user": "bob"})

    assert (place / "user").read_text() == "ada"
    secrets.remove()


def test_a_folder_whose_host_lives_is_left_alone(memory: Path) -> None:
    """Many agents may share one /dev/shm, each with its own process ids."""
    living = SecretFolder([memory])
    living.replace({"user": "ada"})
    (memory / "kagent-1-dead").mkdir()
    (memory / "other").mkdir()
    (memory / "kagent-file").touch()
    SecretFolder([memory, memory / "missing"]).clean()

    assert living.path is not None
    assert (living.path / "user").exists()
    assert not (memory / "kagent-1-dead").exists()
    assert (memory / "other").exists()
    assert (memory / "kagent-file").exists()
    living.remove()


def test_without_a_file_system_in_memory_there_are_no_secrets(tmp_path: Path) -> None:
    """On a disk they would outlive the agent, and the disk."""
    if is_in_memory(tmp_path):
        pytest.skip("platform: temporary files are in memory here")
    with pytest.raises(StartupError, match="there is no writable tmpfs"):
        SecretFolder([tmp_path, tmp_path / "missing"]).replace({"user": "ada"})
