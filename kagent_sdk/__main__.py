"""``python -m kagent_sdk`` is the command ``kos-agent``."""

from kagent_sdk.cli.entry import main

if __name__ == "__main__":
    main()
