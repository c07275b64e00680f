"""``kos-agent run`` for `kagent_sdk.cli.development`: a host that does not outlive its parent."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Let the kernel stop this process when its parent ends, and run the words that follow."""
    if sys.platform == "linux":
        from kagent_sdk.sandbox.kernel import PR_SET_PDEATHSIG, prctl  # noqa: PLC0415 - Linux only

        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    from kagent_sdk.cli.entry import main as run  # noqa: PLC0415 - the tether comes first

    run()


if __name__ == "__main__":
    main()
