"""Giving disk space back: free pages to the file system, and the write-ahead log into the file."""

from __future__ import annotations

import sqlite3


def shrink(connection: sqlite3.Connection, max_pages: int, spare_share: int | None = None) -> int:
    """Give back free pages at the end of the file; an operation that writes, small by its limit.

    The file itself gets shorter at the next checkpoint: see `settle_size`.

    Args:
        connection: in a transaction or not.
        max_pages: how many pages at most; each may mean that another page is moved.
        spare_share: leave this part of the file (one in so many pages) free; None: nothing.

    Returns:
        How many pages are left for the next call.
    """
    assert max_pages > 0, "0 means all of them to SQLite, and takes as long"
    (left,) = connection.execute("PRAGMA freelist_count").fetchone()
    if spare_share is not None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        # What goes makes the file smaller too, and so what may be spared of it.
        left = max(0, left * spare_share - pages) // (spare_share - 1)
    for _ in range(min(left, max_pages)):
        # One at a time: the module stops a statement that gives rows without columns at the first.
        connection.execute("PRAGMA incremental_vacuum(1)")
    return int(max(0, left - max_pages))


def settle_size(connection: sqlite3.Connection) -> bool:
    """Let the file get as short as it may be; an operation that only reads.

    Returns:
        Whether that was possible: it is not among others that write.
    """
    if connection.in_transaction:
        return False
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return True


def fold_log(connection: sqlite3.Connection) -> bool:
    """Move the write-ahead log into the file and cut it to nothing; tell whether that was possible.

    It is not while another connection reads: then the next start does it.
    """
    try:
        connection.execute("PRAGMA busy_timeout = 0")  # whoever reads may go on for long
        (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error:
        return False  # what is in the log is on disk as it is, and is read at the next start
    return not is_busy
