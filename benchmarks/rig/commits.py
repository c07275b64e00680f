"""What SQLite itself takes for a change of one key: the floor of any durable state on this disk.

``python -m rig.commits FILE MODE COUNT KEYS SIZE`` prints the microseconds of each change as JSON.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from contextlib import closing

SYNCHRONOUS = {"process": "NORMAL", "power": "FULL"}


def time_commits(path: str, mode: str, count: int, keys: int, size: int) -> list[float]:
    """Change keys in a table, each change in a transaction of its own, and time them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS[mode]}")
        connection.execute("CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL)")
        taken: list[float] = []
        for number in range(count):
            row = (f"timed/{number % keys}", f'"{number:0{size}}"'.encode())
            began = time.perf_counter()
            connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", row)
            taken.append((time.perf_counter() - began) * 1e6)
        return taken


if __name__ == "__main__":
    file, durability, *numbers = sys.argv[1:]
    print(json.dumps(time_commits(file, durability, *map(int, numbers))))
