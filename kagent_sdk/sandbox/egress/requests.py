"""What a request asks the proxy for, and who asks; pure."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass

from kagent_sdk.errors import EgressError
from kagent_sdk.sandbox.egress.heads import RequestHead
from kagent_sdk.sandbox.egress.means import Access
from kagent_sdk.sandbox.egress.passage import Way
from kagent_sdk.sandbox.egress.rules import parse_authority

USER = "agent"
"""The user name beside the token; which one a client sends does not matter."""

_SCHEME = "http://"
_OWN_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks for.

    Attributes:
        way: see there.
        token: that it shows; empty without one.
        host, port: where to.
        path: with its query, for the destination; empty for a tunnel.
    """

    way: Way
    token: str
    host: str
    port: int
    path: str = ""


def read_wish(head: RequestHead) -> Wish:
    """Return what a request asks for.

    Raises:
        EgressError: nothing that the proxy does.
    """
    if head.method == "CONNECT":
        if head.body != 0:
            raise EgressError("bad_request", "CONNECT has no body")
        host, port = parse_authority(head.target)
        return Wish(Way.TUNNEL, _shown_token(head), host, port)
    if head.method == "TRACE":
        raise EgressError("bad_request", "TRACE would send the headers back", 405)
    if head.target.startswith("/"):
        return _read_own(head.target)
    if head.target[: len(_SCHEME)].lower() != _SCHEME:
        raise EgressError(
            "bad_request", "the target is no http:// URL; for https:// ask with CONNECT"
        )
    return _read_absolute(head)


def _read_absolute(head: RequestHead) -> Wish:
    rest = head.target[len(_SCHEME) :]
    cut = min((at for mark in "/?#" if (at := rest.find(mark)) >= 0), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    if "@" in authority or "#" in path:
        raise EgressError("bad_request", "the URL has a user name or a fragment")
    host, port = parse_authority(authority, 80)
    token = _shown_token(head)
    if host in _OWN_HOSTS and token and path.startswith(f"/{token}/"):
        # A client that sends everything through the proxy, the requests to the proxy too.
        return _read_own(path)
    if not path.startswith("/"):
        path = "*" if head.method == "OPTIONS" and not path else f"/{path}"
    return Wish(Way.PLAIN, token, host, port, path)


def _read_own(target: str) -> Wish:
    """Read ``/TOKEN/HOST:PORT/PATH``, what is asked of the proxy's own endpoint."""
    token, _, rest = target[1:].partition("/")
    if "#" in target:
        raise EgressError("bad_request", "the target has a fragment")
    cut = min((at for mark in "/?" if (at := rest.find(mark)) >= 0), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    host, port = parse_authority(authority.replace("%5B", "[").replace("%5D", "]"))
    return Wish(Way.INJECT, token, host, port, path if path.startswith("/") else f"/{path}")


def _shown_token(head: RequestHead) -> str:
    """Return the password of the header Proxy-Authorization (RFC 7617)."""
    scheme, _, coded = (head.get("proxy-authorization") or "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        text = b64decode(coded.strip(), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return ""
    return text.partition(":")[2]


def find_access(accesses: Mapping[str, Access], token: str) -> Access:
    """Return what a token gives, in a time that does not tell how much of it is right.

    Raises:
        EgressError: nothing.
    """
    found = None
    for known, access in accesses.items():
        if hmac.compare_digest(known.encode(), token.encode()):
            found = access
    if found is None:
        raise EgressError(
            "unauthorized", "the proxy is for the agent's workers: use their HTTPS_PROXY"
        )
    return found
