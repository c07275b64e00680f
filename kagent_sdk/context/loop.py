"""What a loop is given: one run of it."""

from __future__ import annotations

from kagent_sdk.context.base import Context
from kagent_sdk.context.flag import Flag
from kagent_sdk.context.ports import LoopPort


class LoopContext(Context[LoopPort]):
    """One run of a loop.

    Attributes:
        name: the loop's name.
        run: the number of this run, from 1 on; restarts after a crash count.
    """

    __slots__ = ("name", "run")

    def __init__(self, name: str, run: int, port: LoopPort) -> None:
        super().__init__(port)
        self.name = name
        self.run = run

    def __repr__(self) -> str:
        return f"<LoopContext {self.name} run {self.run}>"

    @property
    def log_keys(self) -> dict[str, str | int]:
        """What every line of this run has in the log: ``loop`` and ``run``."""
        return {"loop": self.name, "run": self.run}

    @property
    def stopping(self) -> Flag:
        """Whether the agent is stopping; see `Flag`. An async loop is cancelled besides."""
        return self._port.stopping
