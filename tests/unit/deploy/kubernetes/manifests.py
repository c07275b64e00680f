"""Manifests as data, for tests that look things up in them."""

from __future__ import annotations

from typing import Any

import yaml

from kagent_sdk.config import AgentConfig
from kagent_sdk.deploy.deployment import describe
from kagent_sdk.deploy.kubernetes import render
from kagent_sdk.deploy.rendering import Rendering
from kagent_sdk.deploy.settings import Settings

ALLOWING = {"sandbox": {"network": {"allow": ["api.example.com:443", "*.example.org:8443"]}}}
EXTERNAL = {"sandbox": {"network": {"external": True}}}
TLS = {"http": {"tls": {"certificate": "secrets/tls.crt", "key": "secrets/tls.key"}}}


def export(config: dict[str, Any] | None = None, **settings: Any) -> Rendering:
    """Render the manifests of the agent `shop`."""
    model = AgentConfig.model_validate({"name": "shop", **(config or {})})
    return render(describe(model, "folder", Settings.model_validate(settings)))


def documents(config: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """Return all documents of the agent `shop`, by ``KIND/NAME``."""
    found: dict[str, Any] = {}
    for text in export(config, **settings).files.values():
        for document in yaml.safe_load_all(text):
            key = f"{document['kind']}/{document['metadata']['name']}"
            assert key not in found
            found[key] = document
    return found


def pod(config: dict[str, Any] | None = None, kind: str = "Deployment", **settings: Any) -> Any:
    """Return the ``spec`` of the agent's Pods."""
    return documents(config, **settings)[f"{kind}/shop"]["spec"]["template"]["spec"]


def container(config: dict[str, Any] | None = None, **settings: Any) -> Any:
    """Return the agent's container."""
    (found,) = pod(config, **settings)["containers"]
    return found
