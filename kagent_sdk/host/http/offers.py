"""Tasks that the orchestrator pushes: what their headers say, and whether it is the orchestrator at all."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kagent_sdk.host.http.auth import Gatekeeper
from kagent_sdk.host.link_intake import LinkIntake
from kagent_sdk.host.task import Submission
from kagent_sdk.protocol.headers import KLINK_LEASE, HeaderError
from kagent_sdk.protocol.problem import RequestError
from kagent_sdk.protocol.problems import foreign_lease

MAX_ATTEMPT = 1_000_000

_is_count = re.compile(r"[0-9]{1,16}").fullmatch


class Offers:
    """Reads the headers of offers.

    Args:
        gatekeeper: knows the orchestrator.
        intake: takes the tasks.
    """

    def __init__(self, gatekeeper: Gatekeeper, intake: LinkIntake) -> None:
        self._gatekeeper = gatekeeper
        self.intake = intake

    def read(self, headers: Mapping[str, str], submission: Submission, *, has_id: bool) -> None:
        """Note under which lease a task comes, if it is an offer.

        Raises:
            RequestError: 403: somebody else claims a lease; 400: the headers are malformed.
        """
        lease = headers.get(KLINK_LEASE)
        if lease is None:
            return
        if not self._gatekeeper.is_link(headers):
            raise RequestError(foreign_lease())
        from kagent_sdk.protocol import link  # noqa: PLC0415 - few agents have a link

        if not re.fullmatch(link.WORD_PATTERN, lease, re.ASCII):
            raise HeaderError(KLINK_LEASE, "must be 16 to 64 letters, digits and _ -")
        if not has_id:
            raise HeaderError(KLINK_LEASE, "is for a task with an id")
        _read_count(headers, link.ATTEMPT_HEADER, 1, 1, MAX_ATTEMPT)
        submission.hops = _read_count(headers, link.HOPS_HEADER, 0, 0, link.MAX_HOPS)
        submission.beat = _read_count(headers, link.BEAT_HEADER, 0, 0, link.MAX_COUNT)
        submission.lease = lease


def _read_count(headers: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    value = headers.get(name)
    if value is None:
        return default
    count = int(value) if _is_count(value) else low - 1
    if not low <= count <= high:
        raise HeaderError(name, f"must be a whole number from {low} to {high}")
    return count
