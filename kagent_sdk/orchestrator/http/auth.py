"""Who may ask for what: the token of agents, and the token of operators.

The agent token opens the link, and what agents need to call each other; the operator token opens
everything but the link. Without an operator token every local program is an operator; without an
agent token, which is possible on loopback alone, every local program may be an agent and do what
agents do.
"""

from __future__ import annotations

from collections.abc import Mapping

from kagent_sdk.host.http.auth import OPEN_ROUTES, Gatekeeper
from kagent_sdk.protocol.problem import Problem, RequestError

LINK_PREFIX = "/v1/link/"
SHARED_PREFIXES = ("/v1/tasks", "/v1/capabilities")


class Roles:
    """Checks every request.

    Args:
        agent_token, operator_token: what each of them shows; None: see the module.
    """

    def __init__(self, agent_token: str | None, operator_token: str | None) -> None:
        self._agents = Gatekeeper(agent_token, is_local=True)
        self._operators = Gatekeeper(operator_token, is_local=True)

    @property
    def is_token_required(self) -> bool:
        """Whether an operator needs a token."""
        return self._operators.is_token_required

    def check(self, route: str, headers: Mapping[str, str]) -> None:
        """Let a request pass, or not.

        Raises:
            RequestError: 401; or 403 for a request that a web page made, or of the other role.
        """
        if route in OPEN_ROUTES:
            return
        if route.startswith(LINK_PREFIX):
            self._check(self._agents, self._operators, headers)
        elif not (route.startswith(SHARED_PREFIXES) and self._is_agent(headers)):
            self._check(self._operators, self._agents, headers)

    def _is_agent(self, headers: Mapping[str, str]) -> bool:
        # A local program without a token is looked at as an operator, where operators need none either.
        if not (self._agents.is_token_required or self._operators.is_token_required):
            return False
        return self._agents.admits(headers)

    def _check(self, mine: Gatekeeper, other: Gatekeeper, headers: Mapping[str, str]) -> None:
        try:
            mine.check("", headers)
        except RequestError:
            if mine.is_token_required and other.is_token_required and other.admits(headers):
                raise RequestError(_wrong_role()) from None
            raise


def _wrong_role() -> Problem:
    return Problem(
        403,
        "This role may not do that",
        "forbidden",
        "this token is good for something else: agents use the link and send tasks, operators do "
        "everything but the link",
    )
