"""Giving disk space back: free pages to the file system, and the write-ahead log into the file."""

from __future__ import annotations

import sqlite3


def shrink(connection: sqlite3.Connection, max_pages: int) -> int:
    """Give back free pages at the end of the file; an operation that writes, small by its limit.

    The file itself gets shorter at the next checkpoint.

    Args:
        connection: in a transaction or not.
        max_pages: how many pages at most; each may mean that another page is moved.

    Returns:
        How many free pages are left for the next call.
    """
    # The module steps once through a statement that has no columns, and that frees one page.
    for _ in range(min(max_pages, _count_free(connection))):
        connection.execute("PRAGMA incremental_vacuum(1)")
    return _count_free(connection)


def _count_free(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA freelist_count").fetchone()
    return int(pages)


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
