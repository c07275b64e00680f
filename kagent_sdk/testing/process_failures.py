"""What is wrong with an agent that runs in processes of its own, as a test's failure."""

from __future__ import annotations

MAX_SHOWN_CHARS = 6000


class AgentFailedError(AssertionError):
    """The agent did not do what the test needs: it ended, did not become ready, left something.

    The message ends with the last lines that host and worker have written.
    """


def with_output(message: str, output: str) -> str:
    """Return a message with the end of what an agent has written."""
    shown = output[-MAX_SHOWN_CHARS:].rstrip("\n")
    return f"{message}\n--- the agent's output ---\n{shown or '(none)'}"
