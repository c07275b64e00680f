"""The section ``orchestrator``: the link to an orchestrator, if there is one."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from kagent_sdk.config.section import Section

LABEL_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
"""Keys and values of labels: what Kubernetes takes for a label's value, so that one word does for both."""

MAX_LABELS = 32

Label = Annotated[str, Field(pattern=LABEL_PATTERN)]
Labels = Annotated[dict[Label, Label], Field(max_length=MAX_LABELS)]

LINK_SCHEMES = ("http", "https", "nats", "tls")
"""``tls`` is NATS over TLS, as NATS itself calls it."""


class LinkTlsConfig(Section):
    """TLS of the link; all paths are relative to the agent's folder."""

    ca: str | None = Field(
        None, description="PEM file with who may have signed the orchestrator; unset: the system's."
    )
    certificate: str | None = Field(None, description="PEM file: the agent's own certificate.")
    key: str | None = Field(None, description="PEM file with its private key.")

    @model_validator(mode="after")
    def _keep_pairs(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or neither")
        return self


class OrchestratorConfig(Section):
    """The link: who gives tasks to this agent, and hears of their ends."""

    url: str | None = Field(
        None, description="http(s)://HOST:PORT, or nats://HOST:PORT; unset: there is no link."
    )
    delivery: Literal["push", "pull"] = Field(
        "push",
        description="push: the orchestrator calls the agent; pull: the agent asks for tasks, where "
        "nobody can reach it.",
    )
    address: str | None = Field(
        None,
        description="With push: the URL at which the orchestrator reaches this agent; "
        "unset: that of the control plane.",
    )
    labels: Labels = Field({}, description="Who calls may choose agents by them.")
    token: str = Field(
        "orchestrator_token",
        description="Key of the vault with the bearer token to show; AGENT_ORCHESTRATOR_TOKEN_FILE "
        "names a file instead.",
    )
    heartbeat_s: float = Field(
        5, gt=0, le=300, description="How often the agent says that it is alive, at the least."
    )
    timeout_s: float = Field(
        15, gt=0, le=300, description="For one request of the agent to the orchestrator."
    )
    required: bool = Field(
        default=False, description="Not ready while there is no link (/readyz: link_down)."
    )
    tls: LinkTlsConfig | None = Field(None, description="TLS, and the agent's certificate.")

    @field_validator("url")
    @classmethod
    def _be_reachable(cls, url: str | None) -> str | None:
        return None if url is None else _check_url(url, LINK_SCHEMES)

    @field_validator("address")
    @classmethod
    def _be_an_address(cls, address: str | None) -> str | None:
        return None if address is None else _check_url(address, ("http", "https"))


def _check_url(url: str, schemes: tuple[str, ...]) -> str:
    example = f"{schemes[0]}://HOST:PORT"
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"should be a URL such as {example}")
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole, parts = False, urlsplit("")
    if not is_whole:
        raise ValueError(f"should be a URL such as {example} ({', '.join(schemes)})")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password: put the token into the vault")
    if parts.query or parts.fragment:
        raise ValueError(f"should be a URL such as {example}, without ? and #")
    return url.rstrip("/")
