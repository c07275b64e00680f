"""What agents do every day, inside a filter that allows no network; prints ``fine`` at the end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from kagent_sdk.sandbox.policy import Policy
from tests.integration.syscalls.raw import confine


async def _wait_and_run() -> int:
    await asyncio.sleep(0)
    await asyncio.to_thread(os.getpid)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(1)", stdout=-1)
    out, _ = await process.communicate()
    return int(out)


def _use_files(folder: Path) -> None:
    (folder / "a").write_text("text")
    shutil.copy(folder / "a", folder / "b")
    shutil.copytree(folder, folder.parent / "copy")
    (folder / "link").symlink_to("a")
    (folder / "a").chmod(0o755)
    with sqlite3.connect(folder / "data.db") as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE t (x)")


def _use_processes() -> None:
    thread = threading.Thread(target=os.nice, args=(1,))
    thread.start()
    thread.join()
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
    multiprocessing.set_start_method("fork")
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        assert pool.submit(pow, 2, 3).result() == 8
    assert multiprocessing.Value("i", 3).value == 3
    subprocess.run(["sh", "-c", "true | cat"], check=True)


def main() -> None:
    """Do it all."""
    confine(Policy())
    assert asyncio.run(_wait_and_run()) == 1
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "inner").mkdir()
        _use_files(Path(folder) / "inner")
    _use_processes()
    one, other = socket.socketpair()
    one.sendall(b"x")
    assert other.recv(1) == b"x"
    assert socket.getaddrinfo("127.0.0.1", 80)
    print("fine")  # noqa: T201  # what the test waits for


if __name__ == "__main__":
    main()
