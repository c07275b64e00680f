"""Everyday work of agents: what must go on working inside the sandbox. Each returns what came of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes.util
import hashlib
import logging
import math
import multiprocessing
import multiprocessing.shared_memory
import os
import queue
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zoneinfo
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Facts = dict[str, Any]
Work = Callable[[Facts], str]

EVERYDAY: dict[str, Work] = {}
ASYNCHRONOUS: dict[str, Callable[[Facts], Awaitable[str]]] = {}


def everyday(function: Work) -> Work:
    """Enter a function into the list."""
    EVERYDAY[function.__name__] = function
    return function


def square(number: int) -> int:
    """Return the square: what children are asked for."""
    return number * number


@everyday
def compute_with_numpy(facts: Facts) -> str:
    """Multiply matrices, which starts threads of the library's own."""
    import numpy as np  # noqa: PLC0415 - a large import, for one piece of work

    matrix = np.arange(250_000, dtype=np.float64).reshape(500, 500)
    product = matrix @ np.linalg.inv(matrix + np.eye(500) * 1000)
    file = Path(tempfile.gettempdir(), "matrix.npy")
    np.save(file, product)
    same = bool((np.load(file, mmap_mode="r") == product).all())
    return f"{product.shape} {same} {np.random.default_rng(1).integers(10, size=3).size}"


@everyday
def run_threads(facts: Facts) -> str:
    """Share work among threads."""
    found: queue.Queue[int] = queue.Queue()
    threads = [threading.Thread(target=lambda n=n: found.put(square(n))) for n in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        total = sum(pool.map(square, range(32)))
    return f"{sum(found.get() for _ in threads)} {total}"


@everyday
def run_subprocesses(facts: Facts) -> str:
    """Run a shell, Python, and a child that is ended."""
    shell = subprocess.run(  # noqa: S602 - a fixed command
        "echo one | tr a-z A-Z; ls / >/dev/null; exit 3",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    code = "import json, ssl, sqlite3, os; print(json.dumps(os.getcwd()))"
    python = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    with subprocess.Popen(["sleep", "60"]) as child:
        child.terminate()
        ended = child.wait(10)
    if python.returncode:
        return python.stderr
    return f"{shell.stdout.strip()} {shell.returncode} {python.returncode} {ended}"


@everyday
def run_installed_packages_in_child(facts: Facts) -> str:
    """Import in a child what is installed."""
    done = subprocess.run(
        [sys.executable, "-c", "import numpy, pydantic, kagent_sdk; print('imported')"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr


def _use_pool(method: str) -> str:
    context: Any = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        squares = pool.map(square, range(20))
    lock, value = context.Lock(), context.Value("i", 0)
    ours, theirs = context.Pipe()
    child: Any = context.Process(target=_count, args=(lock, value, theirs))
    child.start()
    told = ours.recv()
    child.join(20)
    return f"{sum(squares)} {value.value} {told} {child.exitcode}"


def _count(lock: Any, value: Any, pipe: Any) -> None:
    with lock:
        value.value += 1
    pipe.send("counted")


@everyday
def fork_processes(facts: Facts) -> str:
    """Share work among processes that are forked."""
    return _use_pool("fork")


@everyday
def spawn_processes(facts: Facts) -> str:
    """Share work among processes that are started anew."""
    return _use_pool("spawn")


@everyday
def use_executor_of_processes(facts: Facts) -> str:
    """Share work by concurrent.futures."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        return str(sum(pool.map(square, range(10))))


@everyday
def share_memory(facts: Facts) -> str:
    """Share memory with a child."""
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=64)
    try:
        assert memory.buf is not None
        memory.buf[:5] = b"hello"
        again = multiprocessing.shared_memory.SharedMemory(memory.name)
        assert again.buf is not None
        told = bytes(again.buf[:5]).decode()
        again.close()
    finally:
        memory.close()
        memory.unlink()
    return told


@everyday
def use_sqlite(facts: Facts) -> str:
    """Keep rows in a database with a write-ahead log, and in one in memory."""
    file = Path("runtime/data/rows.db")
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE IF NOT EXISTS rows (number INTEGER)")
        database.executemany("INSERT INTO rows VALUES (?)", [(n,) for n in range(100)])
    database.execute("VACUUM")
    total = database.execute("SELECT sum(number) FROM rows").fetchone()[0]
    database.close()
    return f"{total} {file.exists()}"


@everyday
def use_temporary_files(facts: Facts) -> str:
    """Make temporary files and folders, archives, copies and moves."""
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile() as named:
        named.write(b"text")
        named.flush()
        copy = shutil.copy2(named.name, Path(folder, "copy"))
        moved = shutil.move(copy, Path(folder, "moved"))
        with zipfile.ZipFile(Path(folder, "archive.zip"), "w") as archive:
            archive.write(moved, "moved")
        os.link(moved, Path(folder, "again"))
        Path(folder, "link").symlink_to("moved")
        names = sorted(path.name for path in Path(folder).iterdir())
        where = Path(folder).resolve()
    kept = shutil.copytree("runtime/data", Path(tempfile.gettempdir(), "kept"), dirs_exist_ok=True)
    shutil.rmtree(kept)
    is_within = where.is_relative_to(Path("runtime/cache").resolve())
    return f"{' '.join(names)} {is_within} {Path.home().is_dir()}"


@everyday
def use_the_machines_facts(facts: Facts) -> str:
    """Ask what programs ask: processors, memory, time zones, certificates, randomness, users."""
    berlin = datetime(2026, 7, 1, tzinfo=UTC).astimezone(zoneinfo.ZoneInfo("Europe/Berlin"))
    certificates = ssl.create_default_context().cert_store_stats()
    page = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    mathematics = ctypes.CDLL(ctypes.util.find_library("m"))
    mathematics.cos.restype = ctypes.c_double
    import psutil  # noqa: PLC0415 - for one piece of work

    own = psutil.Process()
    known = (
        own.memory_info().rss > 0 and own.num_threads() > 0 and psutil.virtual_memory().total > 0
    )
    return (
        f"{berlin.hour} {certificates['x509'] >= 0} {page > 0} {math.isclose(mathematics.cos(0), 1)} "
        f"{len(os.urandom(8))} {known} {hashlib.sha256(b'').hexdigest()[:4]}"
    )


@everyday
def use_signals_and_timers(facts: Facts) -> str:
    """Be woken by a timer in a child, and end a child by a signal."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, lambda *_: os._exit(7))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        time.sleep(10)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    return str(os.waitstatus_to_exitcode(status))


@everyday
def write_a_log_of_ones_own(facts: Facts) -> str:
    """Log to a file in the author's folder."""
    file = Path("runtime/data/own.log")
    handler = logging.FileHandler(file)
    logger = logging.getLogger("own")
    logger.addHandler(handler)
    logger.warning("written")
    handler.close()
    logger.removeHandler(handler)
    return file.read_text().strip()


@everyday
def read_own_folder(facts: Facts) -> str:
    """Read what came with the agent."""
    return (
        f"{'name: breakout' in Path('config.yaml').read_text()} {Path('entrypoint.py').is_file()}"
    )


@everyday
def ask_with_httpx(facts: Facts) -> str:
    """Ask a server by HTTPS, over the proxy that the environment names."""
    import httpx  # noqa: PLC0415 - for one piece of work

    context = ssl.create_default_context(cadata=facts["authority"])
    with httpx.Client(verify=context) as client:
        return client.get(facts["url"], timeout=20).text


@everyday
def ask_with_urllib(facts: Facts) -> str:
    """The same with what Python brings along."""
    import urllib.request  # noqa: PLC0415 - for one piece of work

    context = ssl.create_default_context(cadata=facts["authority"])
    with urllib.request.urlopen(facts["url"], context=context, timeout=20) as answer:
        return str(answer.read().decode())


@everyday
def ask_what_is_not_allowed(facts: Facts) -> str:
    """Ask another server, which the proxy must refuse."""
    import httpx  # noqa: PLC0415 - for one piece of work

    try:
        httpx.get(facts["url"].replace("localhost", "127.0.0.1"), timeout=20)
    except httpx.HTTPError as exc:
        return f"{type(exc).__name__}: {exc}"
    return "answered"


async def ask_with_aiohttp(facts: Facts) -> str:
    """Ask it with aiohttp, which takes the proxy from the environment when told so."""
    import aiohttp  # noqa: PLC0415 - for one piece of work

    context = ssl.create_default_context(cadata=facts["authority"])
    async with (
        aiohttp.ClientSession(trust_env=True) as session,
        session.get(facts["url"], ssl=context) as answer,
    ):
        return await answer.text()


async def run_async_subprocess(facts: Facts) -> str:
    """Run a program on the event loop."""
    process = await asyncio.create_subprocess_exec("echo", "done", stdout=subprocess.PIPE)
    told, _ = await process.communicate()
    in_thread = await asyncio.to_thread(square, 4)
    return f"{told.decode().strip()} {process.returncode} {in_thread}"


async def serve_on_allowed_port(facts: Facts) -> str:
    """Serve one connection on a port that the policy lets it listen on."""
    served = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"served " + await reader.readline())
        await writer.drain()
        writer.close()
        served.set()

    async with await asyncio.start_server(answer, "127.0.0.1", facts["listen"]):
        # The test connects when this file is there.
        await asyncio.to_thread(Path("runtime/data/serving").touch)
        await asyncio.wait_for(served.wait(), 30)
    return "served"


ASYNCHRONOUS |= {
    each.__name__: each for each in (ask_with_aiohttp, run_async_subprocess, serve_on_allowed_port)
}
