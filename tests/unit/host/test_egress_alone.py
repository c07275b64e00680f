"""What the two proxies of a chain are told by the same configuration."""

from __future__ import annotations

from kagent_sdk.config import AgentConfig
from kagent_sdk.host.egress import make_access
from kagent_sdk.host.egress_alone import access_of
from kagent_sdk.sandbox.policy import Destination

CONFIG = AgentConfig.model_validate(
    {
        "sandbox": {
            "network": {
                "allow": ["api.example.com:443"],
                "inject": [{"to": "api.example.com:443", "header": "x-api-key", "secret": "key"}],
                "upstream": "Shop-Egress:3128",
            }
        }
    }
)


def test_the_hosts_proxy_adds_keys_and_goes_by_the_other() -> None:
    """The agent's container has the vault and no route out."""
    access = make_access(CONFIG.sandbox.network)

    assert access.upstream == Destination("shop-egress", 3128)
    assert list(access.injections) == [("api.example.com", 443)]


def test_the_proxy_alone_adds_nothing_and_goes_by_no_other() -> None:
    """Both read one config.yaml: a proxy that asked itself would go round in circles."""
    access = access_of(CONFIG)

    assert access.upstream is None
    assert access.injections == {}
    assert access.rules.find("api.example.com", 443) == Destination("api.example.com", 443)
