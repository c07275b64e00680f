"""``python -S launch.py PLAN REPORT HOST_PID module|program NAME ARGUMENT…``: confined from the start.

Run by its path and without `site`, so that nothing of the author's (a .pth file, a sitecustomize) runs
before the sandbox is on. PLAN and REPORT are inherited descriptors; see `kagent_sdk.sandbox.start`.
"""

from __future__ import annotations

import sys


def _main() -> None:
    # As text, and as little as can be: a script is compiled anew at each start.
    folder = __file__.rpartition("/")[0]
    package = folder.rpartition("/")[0]
    # The standard library alone, until the process is confined: PYTHONPATH may name any folder.
    library = str(sys.modules["encodings"].__file__).rpartition("/encodings/")[0]
    path = sys.path[0 if sys.flags.safe_path else 1 :]
    sys.path[:] = [library, sys.path[-1]]  # the last one is that of extension modules
    # The package itself costs an import of typing: an empty one stands for it, until it is confined.
    for name, place in (("kagent_sdk", package), ("kagent_sdk.sandbox", folder)):
        stand_in = type(sys)(name)
        stand_in.__path__ = [place]
        sys.modules[name] = stand_in
    from kagent_sdk.sandbox.start import start  # noqa: PLC0415

    start(sys.argv[1:], path)


if __name__ == "__main__":
    _main()
