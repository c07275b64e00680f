"""`kos-agent call` goes through NATS when it is told to, or when the mesh in the folder does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kagent_sdk.cli import nats_session
from kagent_sdk.cli.boundary import UsageError
from kagent_sdk.cli.location import check_url
from kagent_sdk.cli.nats_calls import open_nats
from kagent_sdk.cli.nats_location import find_nats
from kagent_sdk.cli.target import Credentials, Target

NOBODY = Credentials()


def write_fleet(folder: Path, link: object) -> None:
    """Write what `kos-agent up` keeps."""
    (folder / ".kos-mesh").mkdir()
    (folder / ".kos-mesh" / "fleet.json").write_text(json.dumps({"version": 1, "link": link}))


def test_an_address_of_nats_is_taken_with_the_token_of_a_file(tmp_path: Path) -> None:
    """Where it is, and as whom; the token never stands in the address."""
    (tmp_path / "token").write_text("secret-of-nats\n")
    found = find_nats("nats://there:4222/", tmp_path, Credentials(tmp_path / "token"), {})

    assert found == Target("nats://there:4222", "secret-of-nats")
    assert "secret" not in repr(found)


@pytest.mark.parametrize("link", ["http://127.0.0.1:8080", None, 3])
def test_a_mesh_with_its_own_orchestrator_is_asked_over_http(tmp_path: Path, link: object) -> None:
    """As before, and so is a folder without a mesh."""
    write_fleet(tmp_path, link)

    assert find_nats(None, tmp_path, NOBODY, {}) is None
    assert find_nats("http://127.0.0.1:1", tmp_path, NOBODY, {}) is None
    assert find_nats(None, tmp_path / "nothing", NOBODY, {}) is None


def test_a_mesh_over_nats_is_called_through_it(tmp_path: Path) -> None:
    """Nobody types what the mesh has written down; a folder that is an agent's is the agent's."""
    write_fleet(tmp_path, "tls://nats.example:4222")
    found = find_nats(None, tmp_path, NOBODY, {})
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "host.json").write_text("{}")

    assert found == Target("tls://nats.example:4222")
    assert find_nats(None, tmp_path, NOBODY, {}) is None


@pytest.mark.parametrize(
    "url",
    [
        *("nats://", "nats://a:b@there:4222", "nats://there:0", "nats://there:4222/way"),
        *("nats://there:4222?token=secret", "tls://the re:4222", "nats://[:4222"),
    ],
)
def test_a_wrong_address_of_nats_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    """With the way out: where a token belongs."""
    with pytest.raises(UsageError, match=r"nats://HOST:PORT|--token-file FILE") as caught:
        find_nats(url, tmp_path, NOBODY, {})

    assert "secret" not in str(caught.value)
    assert "a:b" not in str(caught.value)


def test_what_does_not_go_through_nats_says_where_to_ask() -> None:
    """`status`, `tasks`, `health` and `logs` are an agent's own, or an orchestrator's."""
    with pytest.raises(UsageError, match="status and tasks go through NATS, and this does not"):
        check_url("nats://there:4222")


def test_without_the_extra_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain installation has no client of NATS."""
    monkeypatch.setattr(nats_session, "find_spec", lambda _: None)
    with (
        pytest.raises(UsageError, match=r"pip install 'kagent-sdk\[nats\]'"),
        open_nats(Target("nats://there:4222")),
    ):
        pass
