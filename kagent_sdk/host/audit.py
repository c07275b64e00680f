"""What of the workers' policy is in force: found out beside the start, and kept for ``/status``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subprocess import Popen

    from kagent_sdk.host.logs.pump import LogPump
    from kagent_sdk.host.place import Place
    from kagent_sdk.host.worker_start import WorkerStart
    from kagent_sdk.sandbox.controls import Finding
    from kagent_sdk.sandbox.policy import Policy


class HostAudit:
    """Audits the agent soon after its start, and keeps what was found.

    What a reload changes of the workers is seen on them; the policy itself stays until a restart.

    Args:
        start: how the workers are started.
        vault: where the vault is.
        places: returns those of the workers.
        pump: takes the log events.

    Attributes:
        policy: what the workers are confined by.
        checked_at: when the audit was over, in seconds since the epoch; None before.
        findings: one for each control; empty before the audit.
    """

    def __init__(
        self,
        start: WorkerStart,
        vault: Path,
        *,
        places: Callable[[], Sequence[Place]],
        pump: LogPump,
    ) -> None:
        self._start = start
        self._vault = vault
        self._places = places
        self._pump = pump
        self._probed: tuple[Finding, ...] = ()
        self.policy = start.policy
        self.checked_at: float | None = None
        self.findings: tuple[Finding, ...] = ()

    async def run(self) -> None:
        """Audit once; an audit that breaks is logged, for the agent is none the worse."""
        try:
            await self._audit()
        except Exception as exc:  # noqa: BLE001 - the agent must outlive whatever looks at it
            self._pump.log_exception("sandbox_audit_broke", exc)

    async def sample(self) -> None:
        """Look at the workers and the surroundings anew, for an answer to ``/status``."""
        if self.checked_at is not None:
            self.findings = await self._complete()

    async def _audit(self) -> None:
        with ExitStack() as stack:

            def end_with_host(probe: Popen[bytes]) -> None:
                from kagent_sdk.sandbox.audit.probing import end_probe  # noqa: PLC0415 - there by now

                stack.callback(end_probe, probe)

            self._probed = await asyncio.to_thread(
                _ask_probe, self._start, self._vault, end_with_host
            )
        self.findings = await self._complete()
        self.checked_at = time.time()
        self._tell()

    async def _complete(self) -> tuple[Finding, ...]:
        places = [place for place in self._places() if place.is_ready]
        workers = [place.pid for place in places if place.pid is not None]
        applied = [finding for place in places for finding in place.findings]
        known = (*applied, *self._probed)
        return await asyncio.to_thread(_complete, self.policy, self._vault, known, workers)

    def _tell(self) -> None:
        from kagent_sdk.sandbox.audit.table import find_critical  # noqa: PLC0415 - there by now
        from kagent_sdk.sandbox.controls import Verdict  # noqa: PLC0415

        counted = {
            verdict.value: [one.control.value for one in self.findings if one.verdict is verdict]
            for verdict in (Verdict.WEAKER, Verdict.MISSING, Verdict.UNKNOWN)
        }
        self._pump.log(
            "info",
            "sandbox_audited",
            mode=self.policy.mode,
            isolation=self.policy.isolation,
            **counted,
        )
        for finding in find_critical(self.findings):
            self._pump.log(
                "warning",
                "sandbox_control_open",
                control=finding.control,
                verdict=finding.verdict,
                actual=finding.actual,
                detail=finding.way_out,
            )


# In threads, with their imports: none of this is needed for a start.


def _ask_probe(
    start: WorkerStart, vault: Path, on_start: Callable[[Popen[bytes]], None]
) -> tuple[Finding, ...]:
    from kagent_sdk.host.inspection import ask_probe  # noqa: PLC0415 - as said above

    return ask_probe(start, vault, on_start=on_start)


def _complete(
    policy: Policy, vault: Path, known: Sequence[Finding], workers: Sequence[int]
) -> tuple[Finding, ...]:
    from kagent_sdk.host.inspection import look_around  # noqa: PLC0415 - as said above
    from kagent_sdk.sandbox.audit.table import combine  # noqa: PLC0415

    seen = look_around(policy, vault, is_host=True, workers=workers)
    return combine(policy, (*known, *seen))
