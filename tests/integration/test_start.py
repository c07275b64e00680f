"""What a start costs: which modules a host leaves alone, and that they are there when needed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.agents import agent_environment
from tests.integration.waiting import wait_until

# Each costs a start more than 10 ms, and a host that only listens needs none of them.
LEFT_ALONE = ("aiohttp.connector", "aiohttp.client", "aiohttp.web", "click", "psutil", "yaml")


def run_python(code: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_starting_host_imports_nothing_that_it_can_do_without(tmp_path: Path) -> None:
    """A probe that waits for the client's CA certificates waits a third longer."""
    (tmp_path / "entrypoint.py").write_text("import time\ntime.sleep(60)\n")
    environ = agent_environment(None, "none")
    environ.pop("AGENT_SANDBOX__WRITE", None)  # of coverage; a list is read by yaml
    log = tmp_path / "log.txt"
    command = [sys.executable, "-X", "importtime", "-m", "kagent_sdk", "run", str(tmp_path)]
    with log.open("w") as file:
        host = subprocess.Popen([*command, "--port", "0"], stderr=file, stdout=file, env=environ)
    try:
        wait_until(lambda: "host_started" in log.read_text())
        before = log.read_text().partition("host_started")[0]
    finally:
        host.terminate()
        assert host.wait(20) == 0
    imported = {line.rpartition("|")[2].strip() for line in before.splitlines()}

    assert "aiohttp.web_protocol" in imported
    assert imported.isdisjoint(LEFT_ALONE)


def test_a_wrong_configuration_ends_the_same_with_and_without_click(tmp_path: Path) -> None:
    """Supervisors tell by the exit code whether a restart can help, people by the message."""
    (tmp_path / "config.yaml").write_text("nam: x\n")
    by_click = "import sys; from kagent_sdk.cli.main import main; main(sys.argv[1:])"
    ends = []
    for way in (["-m", "kagent_sdk"], ["-c", by_click]):
        command = [sys.executable, *way, "run", str(tmp_path)]
        ends.append(subprocess.run(command, capture_output=True, text=True, check=False))
    plain, with_click = ends

    assert plain.returncode == with_click.returncode == 78
    assert plain.stderr == with_click.stderr
    assert "did you mean name?" in plain.stderr


def test_the_client_is_there_for_whoever_asks() -> None:
    """A host that calls other agents one day must find the whole package."""
    found = run_python("""
        from kagent_sdk.host.http.lean_aiohttp import put_off_client
        assert put_off_client()
        import sys
        from aiohttp.web_protocol import RequestHandler
        import aiohttp
        assert aiohttp.__version__ and aiohttp.hdrs.ACCEPT
        assert "aiohttp.connector" not in sys.modules
        session = aiohttp.ClientSession
        from aiohttp import ClientTimeout, web
        from aiohttp.client import ClientSession
        assert session is ClientSession and web.RequestHandler is RequestHandler
        assert not hasattr(aiohttp, "nothing_of_this_name")
        print(type(aiohttp).__name__, put_off_client(), sys.modules["aiohttp"] is aiohttp)
    """)

    assert found == "module False True"


@pytest.mark.parametrize(
    "use",
    [
        "from aiohttp import *; ClientSession",
        "from aiohttp import ClientSession",
        "import aiohttp; aiohttp.connector.TCPConnector",
        "import aiohttp.client; aiohttp.ClientSession",
        "import aiohttp.web; aiohttp.web.Application",
        "from aiohttp import test_utils",
    ],
)
def test_every_way_to_import_the_client_works(use: str) -> None:
    """Other people's code does not know that the package is not whole yet."""
    run_python(
        "from kagent_sdk.host.http.lean_aiohttp import put_off_client\nput_off_client()\n" + use
    )


def test_threads_that_ask_at_the_same_time_all_get_it() -> None:
    """Half a package must never be seen."""
    found = run_python("""
        from concurrent.futures import ThreadPoolExecutor
        from kagent_sdk.host.http.lean_aiohttp import put_off_client
        put_off_client()
        import aiohttp
        names = ["ClientSession", "TraceConfig", "TCPConnector", "Fingerprint"] * 4
        with ThreadPoolExecutor(16) as pool:
            print(len(set(pool.map(lambda name: getattr(aiohttp, name), names))))
    """)

    assert found == "4"


def test_a_package_that_is_imported_already_stays_as_it_is() -> None:
    """Who was there first has taken names from it."""
    found = run_python("""
        import aiohttp
        from kagent_sdk.host.http.lean_aiohttp import put_off_client
        print(put_off_client(), type(aiohttp).__name__)
    """)

    assert found == "False module"


@pytest.mark.parametrize("source", ["", "__version__ = 1\n", "\xff"])
def test_a_package_that_looks_different_is_imported_as_always(source: str, tmp_path: Path) -> None:
    """A future aiohttp may come without what we know of it; then the start is slower, not broken."""
    (tmp_path / "aiohttp").mkdir()
    (tmp_path / "aiohttp" / "__init__.py").write_bytes(source.encode("latin-1"))
    found = run_python(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from kagent_sdk.host.http.lean_aiohttp import put_off_client
        print(put_off_client(), "aiohttp" in sys.modules)
    """)

    assert found == "False False"
