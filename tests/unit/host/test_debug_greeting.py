"""Who may look into an agent."""

from __future__ import annotations

import os

import pytest

from kagent_sdk.host.debug_greeting import Peer, RefusedError, check_peer


@pytest.mark.parametrize("mine", [0, 1000])
def test_the_hosts_user_and_root_are_let_in(monkeypatch: pytest.MonkeyPatch, mine: int) -> None:
    """Both can do whatever they like to the worker anyway."""
    monkeypatch.setattr(os, "geteuid", lambda: mine)

    check_peer(Peer(1, mine))
    check_peer(Peer(1, 0))


@pytest.mark.parametrize(
    ("mine", "way_out"), [(0, "become root"), (1000, "become user 1000 or root")]
)
def test_anybody_else_is_refused(monkeypatch: pytest.MonkeyPatch, mine: int, way_out: str) -> None:
    """A user that the kernel does not know in this namespace is nobody too."""
    monkeypatch.setattr(os, "geteuid", lambda: mine)

    with pytest.raises(RefusedError, match=f"user 65534 .*: {way_out}$"):
        check_peer(Peer(1, 65_534))
