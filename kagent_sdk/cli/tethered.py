"""``kos-agent run`` for `kagent_sdk.cli.development`: a host that does not outlive its parent."""

from __future__ import annotations

import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2), <linux/prctl.h>


def main() -> None:
    """Let the kernel stop this process when its parent ends, and run the words that follow."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - what no other system needs

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    from kagent_sdk.cli.entry import main as run  # noqa: PLC0415 - the tether comes first

    run()


if __name__ == "__main__":
    main()
