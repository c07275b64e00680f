"""What the sandbox has kept from the author's code, and the line of config.yaml that would allow it.

An error says what was tried, and not why it failed: what the plain rights of files allow, and the
kernel still refused, was the sandbox. What neither can be told of is left alone: a wrong hint costs
more than none.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType

from kagent_sdk.worker.environment import SANDBOX
from kagent_sdk.worker.output import LineStream
from kagent_sdk.worker.record_writer import write_record

EVENT = "sandbox_denied"
MAX_TOLD = 100
"""Different denials of one worker that are told: what loops over names tells of no more."""

MAX_CHAIN = 20
"""Exceptions that are looked at for one that was raised."""

_HOSTS_OWN = {("runtime",), ("logs",), ("secrets",)}
_WORKERS_OWN = {("runtime", "cache"), ("runtime", "data")}
_BIND = re.compile(r"bind on address \(.*?, (\d+)")
_PROXY_USERS = "through the proxy of HTTPS_PROXY (httpx, requests; aiohttp with trust_env=True)"


@dataclass(frozen=True, slots=True)
class Denial:
    """Something that the sandbox has refused.

    Attributes:
        what: in a few words.
        add: the line of config.yaml that allows it, or what to do instead.
    """

    what: str
    add: str

    @property
    def text(self) -> str:
        """Both as one line."""
        return f"sandbox: {self.what}; {self.add}"


def tell_denials(exc: BaseException) -> None:
    """Write a record for what the sandbox has to do with an exception, once for each thing."""
    for denial in new_denials(exc):
        stream = sys.stderr
        if isinstance(stream, LineStream) and stream.takes_records:
            write_record(stream, "warning", EVENT, {"what": denial.what, "add": denial.add})
        else:
            stream.write(f"{denial.text}\n")
            stream.flush()


def new_denials(exc: BaseException) -> list[Denial]:
    """Return what the sandbox has to do with an exception, without what was returned before."""
    mode = os.environ.get(SANDBOX, "")
    if not mode:
        return []
    told = _told()
    found = []
    for one in _chain(exc):
        denial = find_denial(one, is_closed="external" not in mode)
        if denial is not None and denial not in told and len(told) < MAX_TOLD:
            told.add(denial)
            found.append(denial)
    return found


@cache
def _told() -> set[Denial]:
    return set()


def find_denial(exc: BaseException, *, is_closed: bool) -> Denial | None:
    """Return what the sandbox has refused when this was raised; None when it was something else.

    Args:
        exc: the exception itself; its causes are not looked at.
        is_closed: there is no way to the network but the proxy.
    """
    try:
        if isinstance(exc, socket.gaierror):
            return _of_name(exc) if is_closed else None
        if not isinstance(exc, PermissionError):
            return None
        if exc.filename is None:
            return _of_socket(exc)
        name = exc.filename2 or exc.filename
        return _of_path(exc, Path(os.path.normpath(Path.cwd() / os.fsdecode(name))))
    except Exception:  # noqa: BLE001 - a hint is worth no second failure
        return None


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what it was caused by, or consists of; `MAX_CHAIN` at most."""
    waiting = [exc]
    seen: set[int] = set()
    while waiting and len(seen) < MAX_CHAIN:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inside = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        waiting += [*inside, one.__cause__, one.__context__]


def _of_path(exc: PermissionError, path: Path) -> Denial | None:
    """Judge by what plain rights would allow, and by trying to read."""
    shown = _show(path)
    is_ours = not shown.is_absolute()
    if exc.errno != errno.EACCES:
        return None
    if _was_executed(exc) and os.access(path, os.X_OK):
        return Denial(f"{shown} may not be executed", _add("execute", shown))
    if is_ours and shown.parts[:1] in _HOSTS_OWN and shown.parts[:2] not in _WORKERS_OWN:
        return Denial(
            f"{shown} is the host's alone", "use runtime/data, runtime/cache or ctx.state"
        )
    if path.exists() and not _can_read(path):
        is_meant = os.access(path, os.R_OK)
        return Denial(f"{shown} may not be read", _add("read", shown)) if is_meant else None
    folder = next(one for one in path.parents if one.exists())
    return _of_folder(shown, folder) if os.access(folder, os.W_OK) else None


def _of_folder(shown: Path, folder: Path) -> Denial:
    """Say how something in a folder can be written: a file alone could not be replaced."""
    if Path.cwd().is_relative_to(folder):
        return Denial(f"{shown} may not be written", "write below runtime/data instead")
    return Denial(f"{shown} may not be written", _add("write", _show(folder)))


def _show(path: Path) -> Path:
    """Return a path as config.yaml would have it: relative, in the agent's folder."""
    directory = Path.cwd()
    return path.relative_to(directory) if path.is_relative_to(directory) else path


def _of_name(exc: socket.gaierror) -> Denial | None:
    for frame in _frames(exc):
        if frame.f_code.co_name == "getaddrinfo":
            host, port = frame.f_locals.get("host"), frame.f_locals.get("port")
            if isinstance(host, bytes):
                host = host.decode()
            if isinstance(host, str):
                return _connecting(host, port)
    return None


def _of_socket(exc: PermissionError) -> Denial | None:
    if (bound := _BIND.search(str(exc))) is not None:
        return _listening(int(bound[1]))
    for frame in reversed(list(_frames(exc))):
        values = frame.f_locals
        name = frame.f_code.co_name
        if name == "__init__" and frame.f_code.co_filename.endswith("socket.py"):
            return _making(values.get("family"), values.get("type"))
        address = values.get("address") or values.get("sa")
        if isinstance(address, tuple) and len(address) >= 2:
            is_server = name in {"server_bind", "bind"}
            return _listening(address[1]) if is_server else _connecting(*address[:2])
    return None


def _making(family: object, kind: object) -> Denial | None:
    if family == socket.AF_UNIX:
        add = "add to config.yaml: sandbox: {network: {unix_sockets: true}}"
        return Denial("no unix sockets may be made", add)
    if kind == socket.SOCK_DGRAM:
        add = "add to config.yaml: sandbox: {network: {external: true}}"
        return Denial("there is no UDP", add)
    if kind == socket.SOCK_STREAM and family in {socket.AF_INET, socket.AF_INET6}:
        add = 'add to config.yaml: sandbox: {network: {allow: ["host:port"]}}, and connect '
        return Denial("no host may be connected to", f"{add}{_PROXY_USERS}")
    return None


def _connecting(host: object, port: object) -> Denial:
    where = f"{host}:{port if isinstance(port, int) else 443}"
    add = f'add to config.yaml: sandbox: {{network: {{allow: ["{where}"]}}}}, and connect '
    return Denial(f"{where} may not be connected to directly", f"{add}{_PROXY_USERS}")


def _listening(port: object) -> Denial:
    add = f"add to config.yaml: sandbox: {{network: {{listen: [{port}]}}}}"
    return Denial(f"port {port} may not be listened on", add)


def _add(key: str, path: Path) -> str:
    # As in YAML: quoted, for a path may hold anything.
    quoted = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'add to config.yaml: sandbox: {{{key}: ["{quoted}"]}}'


def _was_executed(exc: BaseException) -> bool:
    return any(frame.f_code.co_name == "_execute_child" for frame in _frames(exc))


def _frames(exc: BaseException) -> Iterator[FrameType]:
    """Yield the frames from where it was caught to where it was raised."""
    link = exc.__traceback__
    while link is not None:
        yield link.tb_frame
        link = link.tb_next


def _can_read(path: Path) -> bool:
    """Try it: access(2) does not know of the sandbox."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY))
    except OSError:
        return False
    return True
