"""The section ``orchestrator``: addresses that cannot work, and secrets that do not belong there."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kagent_sdk.config.orchestrator import OrchestratorConfig


@pytest.mark.parametrize(
    "url", ["http://h:1", "https://h.example/base", "nats://h:4222", "tls://[::1]:4222"]
)
def test_a_link_goes_over_http_or_nats(url: str) -> None:
    """The scheme says what carries it; a slash at the end makes no difference."""
    assert OrchestratorConfig(url=url).url == url
    assert OrchestratorConfig(url=f"{url}/").url == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("h:8080", "http://HOST:PORT"),
        ("ftp://h", "http://HOST:PORT"),
        ("http://", "http://HOST:PORT"),
        ("http://h:0", "http://HOST:PORT"),
        ("http://h:99999", "http://HOST:PORT"),
        ("http://h :1", "http://HOST:PORT"),
        ("http://[h", "http://HOST:PORT"),
        ("http://me:pass@h", "put the token into the vault"),
        ("http://h?x=1", "without ? and #"),
        ("http://h#x", "without ? and #"),
    ],
)
def test_what_cannot_be_reached_or_would_be_shown_is_refused(url: str, said: str) -> None:
    """A password in an address stands in logs and in /status."""
    with pytest.raises(ValidationError) as caught:
        OrchestratorConfig(url=url)

    assert said in str(caught.value.errors()[0]["msg"])


def test_the_agent_itself_is_reached_over_http_alone() -> None:
    """Nobody pushes a task over NATS."""
    with pytest.raises(ValidationError):
        OrchestratorConfig(address="nats://h:1")


@pytest.mark.parametrize("given", ["certificate", "key"])
def test_a_certificate_comes_with_its_key(given: str) -> None:
    """Half of the two is a mistake that TLS would tell of much later."""
    with pytest.raises(ValidationError, match="belong together"):
        OrchestratorConfig.model_validate({"tls": {given: "a.pem"}})
