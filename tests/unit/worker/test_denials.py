"""Tests of `kagent_sdk.worker.denials`: what it makes of errors, without a sandbox.

The errors are made up, the files are not: to plain rights everything here is allowed.
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from kagent_sdk.worker.denials import Denial, find_denial, new_denials
from kagent_sdk.worker.environment import SANDBOX

PROXY = "through the proxy of HTTPS_PROXY (httpx, requests; aiohttp with trust_env=True)"


@pytest.fixture(autouse=True)
def agent_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in an agent's folder, in a sandbox."""
    folder = tmp_path / "agent"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv(SANDBOX, "enforce")
    return folder


def refused(path: object, number: int = errno.EACCES) -> PermissionError:
    """Return the error of a path that was refused."""
    error = OSError(number, os.strerror(number), path)
    assert isinstance(error, PermissionError)
    return error


def denial_of(exc: BaseException) -> Denial | None:
    """Return what the sandbox has to do with an error."""
    return find_denial(exc, is_closed=True)


def test_a_file_outside_that_could_be_made_names_its_folder(tmp_path: Path) -> None:
    """A file alone could be written, and not replaced."""
    (tmp_path / "out").mkdir()

    assert denial_of(refused(str(tmp_path / "out" / "a" / "b.txt"))) == Denial(
        f"{tmp_path}/out/a/b.txt may not be written",
        f'add to config.yaml: sandbox: {{write: ["{tmp_path}/out"]}}',
    )


def test_a_file_in_a_subfolder_is_shown_as_config_yaml_names_it(agent_folder: Path) -> None:
    """The line can be copied, and fits every machine."""
    (agent_folder / "out").mkdir()
    (agent_folder / "out" / "a.txt").touch()

    assert denial_of(refused(b"out/a.txt")) == Denial(
        "out/a.txt may not be written", 'add to config.yaml: sandbox: {write: ["out"]}'
    )


@pytest.mark.parametrize("name", ["out.txt", "../out.txt"])
def test_a_file_beside_the_code_belongs_elsewhere(name: str) -> None:
    """The policy refuses to make the code itself writable."""
    denial = denial_of(refused(name))

    assert denial is not None
    assert denial.add == "write below runtime/data instead"


def test_a_name_is_quoted_as_yaml_wants_it(tmp_path: Path) -> None:
    """A path may hold anything."""
    (tmp_path / 'a"b').mkdir()
    denial = denial_of(refused(str(tmp_path / 'a"b' / "c")))

    assert denial is not None
    assert denial.add.endswith('a\\"b"]}')


@pytest.mark.parametrize("name", ["runtime/journal.db", "logs/runtime.log", "secrets/vault.json"])
def test_what_is_the_hosts_has_no_line_that_allows_it(name: str) -> None:
    """And the message says what there is instead."""
    denial = denial_of(refused(name))

    assert denial == Denial(
        f"{name} is the host's alone", "use runtime/data, runtime/cache or ctx.state"
    )


def test_a_program_is_named_as_a_program(tmp_path: Path) -> None:
    """It can be read, so only the call tells."""
    program = tmp_path / "program"
    program.touch(0o755)

    def _execute_child() -> None:
        raise refused(str(program))

    with pytest.raises(PermissionError) as caught:
        _execute_child()

    assert denial_of(caught.value) == Denial(
        f"{program} may not be executed",
        f'add to config.yaml: sandbox: {{execute: ["{program}"]}}',
    )


def test_a_rename_names_where_it_went(tmp_path: Path) -> None:
    """What is moved out of runtime/data is written elsewhere."""
    error = OSError(errno.EACCES, "Permission denied", "runtime/data/a", None, str(tmp_path / "b"))
    denial = denial_of(error)

    assert denial is not None
    assert denial.what == f"{tmp_path}/b may not be written"


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("no"),
        FileNotFoundError(errno.ENOENT, "No such file", "x"),
        PermissionError(errno.EPERM, "Operation not permitted", "x"),
        PermissionError("made up"),
        PermissionError(errno.EACCES, "Permission denied", 7),
    ],
)
def test_other_errors_are_left_alone(exc: BaseException) -> None:
    """A wrong hint costs more than none."""
    assert denial_of(exc) is None


def _getaddrinfo(host: object, port: object) -> None:  # noqa: ARG001 - seen in the frame
    raise socket.gaierror(-3, "Temporary failure in name resolution")


_getaddrinfo.__code__ = _getaddrinfo.__code__.replace(co_name="getaddrinfo")


@pytest.mark.parametrize(
    ("host", "port", "where"),
    [("db.test", 5432, "db.test:5432"), (b"api.test", None, "api.test:443")],
)
def test_a_name_that_is_not_found_is_a_host_that_is_not_allowed(
    host: object, port: object, where: str
) -> None:
    """There is no way to a name server: to the author it looks like a broken network."""
    with pytest.raises(socket.gaierror) as caught:
        _getaddrinfo(host, port)

    assert denial_of(caught.value) == Denial(
        f"{where} may not be connected to directly",
        f'add to config.yaml: sandbox: {{network: {{allow: ["{where}"]}}}}, and connect {PROXY}',
    )
    assert find_denial(caught.value, is_closed=False) is None


def test_a_name_error_without_its_call_is_left_alone() -> None:
    """Libraries raise their own."""
    assert denial_of(socket.gaierror(-3, "Temporary failure")) is None


def _connect(address: object) -> None:  # noqa: ARG001 - seen in the frame
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_refused_connection_names_host_and_port() -> None:
    """Of a socket's error itself neither can be seen."""
    with pytest.raises(PermissionError) as caught:
        _connect(("10.0.0.1", 5432))
    denial = denial_of(caught.value)

    assert denial is not None
    assert denial.what == "10.0.0.1:5432 may not be connected to directly"


def test_a_port_that_may_not_be_listened_on_is_named() -> None:
    """Asyncio says it in the message, and nowhere else."""
    text = "error while attempting to bind on address ('127.0.0.1', 8081): permission denied"

    assert denial_of(PermissionError(errno.EACCES, text)) == Denial(
        "port 8081 may not be listened on",
        "add to config.yaml: sandbox: {network: {listen: [8081]}}",
    )


@pytest.mark.parametrize(
    ("family", "kind", "add"),
    [
        (socket.AF_UNIX, socket.SOCK_STREAM, "unix_sockets: true"),
        (socket.AF_INET, socket.SOCK_DGRAM, "external: true"),
        (socket.AF_INET6, socket.SOCK_STREAM, 'allow: ["host:port"]'),
    ],
)
def test_a_socket_that_may_not_be_made_says_what_allows_it(
    family: int, kind: int, add: str
) -> None:
    """Operation not permitted says nothing at all."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    namespace: dict[str, object] = {"refuse": refuse}
    code = "def __init__(family, type):\n    refuse()\n"
    exec(compile(code, "/usr/lib/python3/socket.py", "exec"), namespace)  # noqa: S102
    with pytest.raises(PermissionError) as caught:
        namespace["__init__"](family, kind)  # type: ignore[operator]
    denial = denial_of(caught.value)

    assert denial is not None
    assert add in denial.add


def test_the_cause_counts_and_everything_is_told_once(tmp_path: Path) -> None:
    """Libraries wrap what they raise, and loops raise it again and again."""
    error = refused(str(tmp_path / "told-once"))
    try:
        try:
            raise error
        except PermissionError as exc:
            raise ExceptionGroup("both", [RuntimeError("cannot save"), exc]) from exc
    except ExceptionGroup as group:
        wrapped = group

    assert [denial.what for denial in new_denials(wrapped)] == [
        f"{tmp_path}/told-once may not be written"
    ]
    assert new_denials(wrapped) == []
    assert new_denials(error) == []


def test_without_a_sandbox_nothing_is_its_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rights of files are then all there is."""
    monkeypatch.delenv(SANDBOX)

    assert new_denials(refused(str(tmp_path / "x"))) == []
