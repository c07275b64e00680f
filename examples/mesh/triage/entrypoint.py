"""Says how urgent a text is, and whose it is."""

from __future__ import annotations

from typing import Literal

from kagent_sdk import Agent
from pydantic import BaseModel

agent = Agent()

ALARMING = ("down", "lost", "outage", "urgent", "breach")
TEAMS = {"billing": ("invoice", "charged", "refund"), "platform": ("down", "slow", "outage")}


class Verdict(BaseModel):
    """What `triage` answers."""

    urgency: Literal["normal", "high"]
    team: str
    because: list[str]


@agent.capability(idempotent=True)
def triage(text: str) -> Verdict:
    """Judge a text by its words."""
    words = text.lower().split()
    alarming = [word for word in words if word.strip(".,!?") in ALARMING]
    teams = (team for team, signs in TEAMS.items() if any(sign in text.lower() for sign in signs))
    return Verdict(
        urgency="high" if alarming else "normal", team=next(teams, "support"), because=alarming
    )


if __name__ == "__main__":
    agent.run()
