"""Write sample logs with planted anomalies, for a machine that has no logs of its own.

``python sample.py FOLDER [LINES]`` writes four files in public formats: a web server's access log
(nginx), an SSH server's (RFC 3164), a file system's (Hadoop) and an application's (JSON lines, with
tracebacks). The same seed writes the same lines.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

SEED = 20260511
DAY_S = 86_400
START = datetime(2026, 5, 11, tzinfo=UTC)
DEFAULT_LINES = 12_000

Line = tuple[float, str]


def write_sample(folder: Path, lines: int = DEFAULT_LINES, seed: int = SEED) -> list[Path]:
    """Write the four files, of about so many lines together, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)  # noqa: S311 - reproducible, nothing secret
    share = lines // 10
    parts = {
        "access.log": access_lines(rng, share * 4),
        "auth.log": ssh_lines(rng, share * 2),
        "hdfs.log": hadoop_lines(rng, share * 2),
        "shop.jsonl": shop_lines(rng, share * 2),
    }
    paths = []
    for name, entries in parts.items():
        path = folder / name
        text = "".join(f"{line}\n" for _, line in sorted(entries, key=lambda entry: entry[0]))
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def access_lines(rng: random.Random, count: int) -> Iterator[Line]:
    """A web server's day; planted: half an hour of 502 on the checkout at 14:05."""
    pages = ("/", "/catalogue", "/search", "/cart", "/static/app.js", "/api/stock", "/api/prices")
    for at in _times(rng, count):
        status = rng.choices((200, 304, 404), (90, 8, 2))[0]
        yield at, _access(rng, at, f"GET {rng.choice(pages)}", status)
    for at in _times(rng, count // 25, 14 * 3600 + 300, 14 * 3600 + 2100):
        yield at, _access(rng, at, f"POST /api/orders/{rng.randint(10_000, 99_999)}/checkout", 502)


def ssh_lines(rng: random.Random, count: int) -> Iterator[Line]:
    """An SSH server's day; planted: one address guesses passwords at 03:12."""
    for at in _times(rng, count):
        pid, user = rng.randint(900, 32_000), rng.choice(("ada", "grace", "linus", "deploy"))
        port, tail = rng.randint(30_000, 60_000), rng.randint(2, 250)
        text = rng.choice(
            (
                f"Accepted publickey for {user} from 10.0.4.{tail} port {port} ssh2: ED25519",
                f"pam_unix(sshd:session): session opened for user {user}(uid=1000) by (uid=0)",
                f"pam_unix(sshd:session): session closed for user {user}",
                f"Received disconnect from 10.0.4.{tail} port {port}:11: disconnected by user",
            )
        )
        yield at, _syslog(at, pid, text)
    for at in _times(rng, count // 12, 3 * 3600 + 720, 3 * 3600 + 900):
        port = rng.randint(30_000, 60_000)
        user = rng.choice(("root", "admin", "oracle", "test", "pi"))
        text = f"Failed password for invalid user {user} from 203.0.113.66 port {port} ssh2"
        yield at, _syslog(at, rng.randint(900, 32_000), text)
    yield _at(3 * 3600 + 905), _syslog(_at(3 * 3600 + 905), 4242, "fatal: Too many open files")


def hadoop_lines(rng: random.Random, count: int) -> Iterator[Line]:
    """A file system's day; planted: replication stops at 17:00, and one disk error."""
    for at in _times(rng, count):
        block, host = (
            rng.randint(10**17, 10**18),
            f"10.250.{rng.randint(0, 19)}.{rng.randint(2, 250)}",
        )
        text = rng.choice(
            (
                f"INFO dfs.DataNode$PacketResponder: Received block blk_{block} of size 67108864 from /{host}",
                f"INFO dfs.DataNode$DataXceiver: Receiving block blk_{block} src: /{host}:54106",
                f"INFO dfs.FSNamesystem: BLOCK* NameSystem.addStoredBlock: {host}:50010 is added to blk_{block}",
            )
        )
        yield at, _hadoop(rng, at, text)
    for minute in range(0, 17 * 60, 5):
        at = _at(minute * 60 + rng.random() * 20)
        yield (
            at,
            _hadoop(rng, at, "INFO dfs.FSNamesystem: replication round finished, 0 blocks missing"),
        )
    at = _at(16 * 3600 + 3540)
    text = f"ERROR dfs.DataNode: IOException in blk_{10**17}: No space left on device"
    yield at, _hadoop(rng, at, text)


def shop_lines(rng: random.Random, count: int) -> Iterator[Line]:
    """An application's day; planted: a new failure with a traceback from 22:40 on."""
    for at in _times(rng, count):
        order, took = rng.randint(10_000, 99_999), rng.randint(3, 90)
        text = rng.choice(
            (
                f"order {order} stored in {took} ms",
                f"order {order} paid",
                "cache refreshed",
                "stock checked",
            )
        )
        yield at, _json(at, "info", text)
    for at in _times(rng, max(3, count // 400), 22 * 3600 + 2400, DAY_S):
        trace = (
            "Traceback (most recent call last):\n"
            '  File "/srv/shop/payment.py", line 88, in settle\n'
            "    rate = self.rates[currency]\n"
            "KeyError: 'XAU'"
        )
        yield (
            at,
            f"{_json(at, 'error', f'payment of order {rng.randint(10_000, 99_999)} failed')}\n{trace}",
        )
    for at in _times(rng, max(4, count // 200)):
        yield at, _json(at, "warning", f"retrying the price service, attempt {rng.randint(2, 5)}")


def _at(second_of_day: float) -> float:
    return (START + timedelta(seconds=second_of_day)).timestamp()


def _times(
    rng: random.Random, count: int, start_s: float = 0, end_s: float = DAY_S
) -> Iterator[float]:
    for _ in range(count):
        yield _at(start_s + rng.random() * (end_s - start_s))


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _access(rng: random.Random, at: float, request: str, status: int) -> str:
    client = f"198.51.100.{rng.randint(2, 250)}"
    size = rng.randint(120, 90_000)
    return f'{client} - - [{_moment(at):%d/%b/%Y:%H:%M:%S +0000}] "{request} HTTP/1.1" {status} {size} "-" "Mozilla/5.0"'


def _syslog(at: float, pid: int, text: str) -> str:
    moment = _moment(at)
    return f"{moment:%b} {moment.day:>2} {moment:%H:%M:%S} bastion sshd[{pid}]: {text}"


def _hadoop(rng: random.Random, at: float, text: str) -> str:
    return f"{_moment(at):%y%m%d %H%M%S} {rng.randint(10, 900)} {text}"


def _json(at: float, level: str, text: str) -> str:
    stamp = _moment(at).isoformat(timespec="milliseconds")
    return json.dumps({"time": stamp, "level": level, "logger": "shop", "msg": text})


if __name__ == "__main__":
    chosen = int(sys.argv[2]) if len(sys.argv) > 2 else DEFAULT_LINES
    for written in write_sample(Path(sys.argv[1]), chosen):
        print(written)
