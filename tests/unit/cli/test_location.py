"""Tests of `kagent_sdk.cli.location`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kagent_sdk.cli import location
from kagent_sdk.cli.boundary import UnreachableError, UsageError
from kagent_sdk.cli.location import check_url, local_target, remote_target
from kagent_sdk.cli.target import Credentials

NOBODY = Credentials()
SECRET, TOKEN_A, TOKEN_B = "s3cret", "token-a", "token-b"


def write_host_file(folder: Path, **document: object) -> None:
    """Write what a running host writes."""
    (folder / "runtime").mkdir()
    (folder / "runtime" / "host.json").write_text(json.dumps(document))


def dead_pid() -> int:
    """Return the id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_running_agent_is_found_by_its_folder(tmp_path: Path) -> None:
    """Nobody types ports."""
    write_host_file(tmp_path, pid=os.getpid(), url="http://127.0.0.1:4711/")

    target = local_target(tmp_path, NOBODY, {})

    assert target.url == "http://127.0.0.1:4711"
    assert target.token is None


@pytest.mark.parametrize(
    ("url", "reachable"),
    [
        ("http://0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("https://[::]:8443", "https://[::1]:8443"),
        ("http://10.0.0.7:8080", "http://10.0.0.7:8080"),
    ],
)
def test_an_agent_that_listens_everywhere_is_reached_on_loopback(
    tmp_path: Path, url: str, reachable: str
) -> None:
    """0.0.0.0 is where a server listens, not where a client goes."""
    write_host_file(tmp_path, pid=os.getpid(), url=url)

    assert local_target(tmp_path, NOBODY, {}).url == reachable


def test_no_agent_in_a_folder_says_how_to_start_it(tmp_path: Path) -> None:
    """The most common error of all."""
    (tmp_path / "entrypoint.py").touch()

    with pytest.raises(UnreachableError) as caught:
        local_target(tmp_path, NOBODY, {})

    assert str(caught.value) == (
        f"no agent is running in {tmp_path}; start it with: kos-agent run {tmp_path}"
    )
    assert caught.value.exit_code == 3


def test_a_folder_without_an_agent_says_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody typed the command in the wrong folder: its whole name shows which."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UnreachableError, match=rf"in {tmp_path}; name an agent's folder with -C"):
        local_target(Path(), NOBODY, {})
    with pytest.raises(UnreachableError, match=r"there is no folder nowhere"):
        local_target(Path("nowhere"), NOBODY, {})


def test_an_agent_that_is_gone_is_not_talked_to(tmp_path: Path) -> None:
    """A host that was killed leaves its file; its port may be somebody else's by now."""
    pid = dead_pid()
    write_host_file(tmp_path, pid=pid, url="http://127.0.0.1:4711")

    with pytest.raises(UnreachableError, match=f"the last one, process {pid}, is gone"):
        local_target(tmp_path, NOBODY, {})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"pid": "1", "url": "x"}',
        b'{"pid": true, "url": "x"}',
        b"\xff",
        b"[" * 9999,
    ],
)
def test_a_damaged_file_is_told_as_such(tmp_path: Path, content: bytes) -> None:
    """A full disk tears files."""
    write_host_file(tmp_path)
    (tmp_path / "runtime" / "host.json").write_bytes(content)

    with pytest.raises(UnreachableError, match=r"host\.json is damaged; restart the agent"):
        local_target(tmp_path, NOBODY, {})


@pytest.mark.parametrize("pid", [0, -1, 2**70])
def test_a_number_that_is_no_process_is_not_alive(tmp_path: Path, pid: int) -> None:
    """os.kill(0) would be the whole process group, and always there."""
    write_host_file(tmp_path, pid=pid, url="http://127.0.0.1:4711")

    with pytest.raises(UnreachableError, match="is gone"):
        local_target(tmp_path, NOBODY, {})


def test_a_process_of_another_user_is_alive() -> None:
    """Root's agent may be asked by everybody who may read its file."""
    assert location.is_alive(1)


def test_the_vault_has_the_token_of_a_local_agent(tmp_path: Path) -> None:
    """Whoever may read the vault need not name it."""
    write_host_file(tmp_path, pid=os.getpid(), url="http://127.0.0.1:4711")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "vault.json").write_text('{"agent_token": "s3cret"}')

    target = local_target(tmp_path, NOBODY, {})

    assert target.token == SECRET
    assert "s3cret" not in repr(target)


@pytest.mark.parametrize("vault", ['{"other": "x"}', "[]", "{", '{"agent_token": 7}'])
def test_a_vault_without_a_token_is_no_error(tmp_path: Path, vault: str) -> None:
    """The agent says whether it wants one."""
    write_host_file(tmp_path, pid=os.getpid(), url="http://127.0.0.1:4711")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "vault.json").write_text(vault)

    assert local_target(tmp_path, NOBODY, {}).token is None


def test_a_remote_agent_never_gets_the_local_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--url may point anywhere; a secret goes only where its owner sends it."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "vault.json").write_text('{"agent_token": "s3cret"}')
    monkeypatch.chdir(tmp_path)

    assert remote_target("http://example.org", NOBODY, {}).token is None


def test_a_token_file_is_named_by_option_or_environment(tmp_path: Path) -> None:
    """The option wins."""
    (tmp_path / "a").write_text(f"{TOKEN_A}\n")
    (tmp_path / "b").write_text(TOKEN_B)
    environ = {"AGENT_TOKEN_FILE": str(tmp_path / "b")}

    assert remote_target("http://h", Credentials(tmp_path / "a"), environ).token == TOKEN_A
    assert remote_target("http://h", NOBODY, environ).token == TOKEN_B


@pytest.mark.parametrize(
    "content", [b"", b"two words", b"a\nX-Evil: 1", b"\xff\xfe", "schlüssel".encode()]
)
def test_what_is_no_token_is_not_sent(tmp_path: Path, content: bytes) -> None:
    """A line break would begin a header of the file's own."""
    path = tmp_path / "token"
    path.write_bytes(content)

    with pytest.raises(UsageError) as caught:
        remote_target("http://h", Credentials(path), {})

    assert str(path) in str(caught.value)


def test_a_token_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """And one of a gigabyte is not read."""
    with pytest.raises(UsageError, match=r"cannot read the token file .*: No such file"):
        remote_target("http://h", Credentials(tmp_path / "none"), {})
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(location.MAX_FILE_BYTES + 1)
    with pytest.raises(UsageError, match="cannot read the token file"):
        remote_target("http://h", Credentials(big), {})


@pytest.mark.parametrize(
    "url", ["http://h:8080", "https://agents.example/hello/", "http://[::1]:1"]
)
def test_addresses_are_taken(url: str) -> None:
    """With a path too: an agent may stand behind a gateway."""
    assert check_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8080",
        "ftp://h",
        "http://",
        "http://h:99999",
        "http://h:0",
        "http://[::1",
        "http://h/\r\nX: 1",
        "http://h/a b",
        "http://user:pass@h",
        "http://h/?q=1",
        "http://h/#f",
        "http://hé",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """Before anything is sent anywhere."""
    with pytest.raises(UsageError):
        check_url(url)
