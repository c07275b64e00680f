"""A request is an offer only when the orchestrator says so, in words that make sense."""

from __future__ import annotations

from typing import Any

import pytest

from kagent_sdk.config.models import HttpConfig
from kagent_sdk.host.http.auth import Gatekeeper
from kagent_sdk.host.http.offers import Offers
from kagent_sdk.host.task import Submission
from kagent_sdk.protocol.headers import HeaderError
from kagent_sdk.protocol.problem import RequestError

TOKEN = "a-token-for-one-start-of-the-agent"  # noqa: S105 - of these tests
LEASE = "lease-one-0123456789"


def read(headers: dict[str, str], *, has_id: bool = True) -> Submission:
    """Read an offer that shows the token, unless the headers say otherwise."""
    gatekeeper = Gatekeeper.decide(HttpConfig(), address="127.0.0.1", token=None)
    gatekeeper.let_link_in(TOKEN)
    submission = Submission("t1", "echo", b"{}", kept=True)
    intake: Any = None
    Offers(gatekeeper, intake).read(
        {"Authorization": f"Bearer {TOKEN}", **headers}, submission, has_id=has_id
    )
    return submission


def test_an_offer_has_a_lease_and_its_hops() -> None:
    """The rest of the host goes by them."""
    full = read({"Klink-Lease": LEASE, "Klink-Attempt": "3", "Klink-Hops": "16"})
    bare = read({"Klink-Lease": LEASE})

    assert (full.lease, full.hops) == (LEASE, 16)
    assert (bare.lease, bare.hops) == (LEASE, 0)


def test_everything_else_is_no_offer() -> None:
    """The other headers mean nothing by themselves."""
    submission = read({"Klink-Hops": "nonsense"})

    assert (submission.lease, submission.hops) == (None, 0)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Klink-Lease": "short"}, "Klink-Lease: must be 16 to 64"),
        ({"Klink-Lease": LEASE + "\n"}, "Klink-Lease: must be 16 to 64"),
        ({"Klink-Lease": "ü" * 20}, "Klink-Lease: must be 16 to 64"),
        ({"Klink-Hops": "17"}, "Klink-Hops: must be a whole number from 0 to 16"),
        ({"Klink-Hops": "-1"}, "Klink-Hops: must be a whole number"),
        ({"Klink-Attempt": "0"}, "Klink-Attempt: must be a whole number"),
        ({"Klink-Attempt": "9" * 400}, "Klink-Attempt: must be a whole number"),
    ],
)
def test_what_makes_no_sense_is_refused(headers: dict[str, str], said: str) -> None:
    """With 400, which the orchestrator's operator can read."""
    with pytest.raises(HeaderError) as caught:
        read({"Klink-Lease": LEASE, **headers})

    assert said in str(caught.value.problem.detail)
    assert caught.value.problem.status == 400


def test_an_offer_needs_an_id() -> None:
    """By it a repetition is told from another task."""
    with pytest.raises(HeaderError):
        read({"Klink-Lease": LEASE}, has_id=False)


@pytest.mark.parametrize("shown", ["Bearer nobody", ""])
def test_nobody_else_may_give_a_lease(shown: str) -> None:
    """Whoever could would be told the results; and an orchestrator must see that this is not its agent."""
    with pytest.raises(RequestError) as caught:
        read({"Klink-Lease": LEASE, "Authorization": shown})

    assert (caught.value.problem.status, caught.value.problem.code) == (403, "foreign_lease")
