"""`kos-agent init`, `run`, `status`, `health` and `config`: the life of an agent on one machine."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.cli import Terminal, environment, kos, show
from tests.agents import RunningAgent, running_agent, start_agent

PORT_0 = {"AGENT_HTTP__HOST": "127.0.0.1", "AGENT_HTTP__PORT": "0"}
READY_DEADLINE_S = 30.0
POLL_S = 0.1
STYLE = re.compile(r"\x1b\[[\d;]*m")

KEY = """\
MHcCAQEEILBfhijbeIUDAdw02U58n5y9Fk0zIqwnAzSMfq6HKDXuoAoGCCqGSM49
AwEHoUQDQgAETal5uEP9JnE/iCZxSfclliI4Rf+n51gKY3Zvu632qhPWvRoKY74Z
oH4XUcQdWnQ5MijZlEX5u+gJeqfAw4sB4g=="""
CERTIFICATE = """\
MIIBhzCCAS2gAwIBAgIUNMSDTmKf35ylRF8aRc9ltH0nKQYwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNYWdlbnQuZXhhbXBsZTAgFw0yNjExMjMxODQxNDNaGA8yMTI2
MTAzMDE4NDE0M1owGDEWMBQGA1UEAwwNYWdlbnQuZXhhbXBsZTBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABE2pebhD/SZxP4gmcUn3JZYiOEX/p+dYCmN2b7ut9qoT
1r0aCmO+GaB+F1HEHVp0OTIo2ZRF+bvoCXqnwMOLAeKjUzBRMB0GA1UdDgQWBBQv
YUSFgjYZ2HvqmfqqEN7nsqPtxDAfBgNVHSMEGDAWgBQvYUSFgjYZ2HvqmfqqEN7n
sqPtxDAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQCM2/D2569a
qeDHFhOmONsACCO1sLoOrjOXNIhWJhzF9gIgL96MSuFAFeSYTzg8RRfrorvRonJh
IB3iwCvelL4nJfk="""
"""Of the name agent.example, signed by itself, good until 2126; made with `openssl req -x509`."""


def pem(kind: str, content: str) -> str:
    """Return a file of the kind that OpenSSL reads (RFC 7468)."""
    return f"-----BEGIN {kind}-----\n{content}\n-----END {kind}-----\n"


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """The folder of an agent that `kos-agent init` has just made."""
    folder = tmp_path / "hello"
    assert kos("init", folder).code == 0
    return folder


@pytest.fixture
def running(hello: Path) -> Iterator[RunningAgent]:
    """That agent, running."""
    with running_agent(hello) as agent:
        yield agent


def write_secret(path: Path, text: str) -> Path:
    """Write a file that only its owner may read, in a folder of the same kind."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def wait_ready(*where: str | Path) -> None:
    """Wait with the command itself until an agent takes tasks."""
    give_up_at = time.monotonic() + READY_DEADLINE_S
    while (result := kos("health", "--ready", *where)).code != 0:
        assert time.monotonic() < give_up_at, result.err
        time.sleep(POLL_S)


@pytest.mark.timeout(180)
def test_a_new_agent_passes_its_own_test(hello: Path) -> None:
    """The first thing that a newcomer does after the first thing."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(hello)],
        env=environment(None),
        capture_output=True,
        check=False,
        text=True,
    )

    assert result.returncode == 0, result.stdout
    assert "4 passed" in result.stdout
    assert not (hello / "runtime").exists()


def test_the_steps_that_init_shows_can_be_followed(tmp_path: Path) -> None:
    """As they stand, from the folder where they are shown."""
    shown = kos("init", "my-agent", cwd=tmp_path).out.splitlines()
    run, call = (shlex.split(line)[1:] for line in shown if line.startswith("  kos-agent"))
    with Terminal(run, env=PORT_0, cwd=tmp_path) as terminal:
        terminal.read_until("worker_ready")

        result = kos(*call, cwd=tmp_path)
        terminal.interrupt()

        assert terminal.wait().code == 0
    assert result.json() == {"text": "Hello, Ada!"}


def test_run_takes_an_entrypoint_and_options(hello: Path) -> None:
    """The options win over the file."""
    (hello / "entrypoint.py").rename(hello / "other.py")
    arguments = ["-m", "kagent_sdk", "run", "other.py", "--port", "0", "--workers", "2"]

    with running_agent(hello, arguments=arguments, env={"AGENT_HTTP__PORT": "1"}) as agent:
        status = agent.status()

    assert [process["role"] for process in status["processes"]] == ["host", "worker", "worker"]


@pytest.mark.parametrize(
    ("file", "content", "code", "message"),
    [
        (
            "config.yaml",
            "nmae: x",
            78,
            "error: config.yaml:1: nmae: unknown key; did you mean name?",
        ),
        ("config.yaml", "entrypoint: none.py", 3, "error: none.py is not in "),
        ("entrypoint.py", "raise SystemExit('no luck')", 75, "error: "),
    ],
)
def test_an_agent_that_cannot_start_says_why(
    hello: Path, file: str, content: str, code: int, message: str
) -> None:
    """One line, and an exit code that says whether it is worth to try again."""
    (hello / file).write_text(content)
    quick = {"AGENT_WORKER__BACKOFF_INITIAL_S": "0.01", "AGENT_WORKER__BACKOFF_MAX_S": "0.01"}

    result = kos("run", hello, env=PORT_0 | quick)

    assert result.code == code
    assert result.err.splitlines()[-1].startswith(message)
    assert "Traceback" not in result.err


def test_a_crash_loop_ends_with_the_last_traceback(hello: Path) -> None:
    """Whoever finds the container dead finds the reason next to it."""
    (hello / "entrypoint.py").write_text("import no_such_module\n")
    quick = {"AGENT_WORKER__BACKOFF_INITIAL_S": "0.01", "AGENT_WORKER__BACKOFF_MAX_S": "0.01"}

    result = kos("run", hello, env=PORT_0 | quick)

    assert result.code == 75
    *_, reason, last = result.err.splitlines()
    assert reason == "ModuleNotFoundError: No module named 'no_such_module'"
    assert last.startswith("error: ")


def test_health_is_an_exit_code(running: RunningAgent) -> None:
    """Container engines read 0 and 1, nothing else."""
    folder = running.directory
    alive = [kos("health", *ready, "-C", folder) for ready in ([], ["--ready"])]
    running.stop()
    gone = [kos("health", *ready, "-C", folder) for ready in ([], ["--ready"])]

    assert [result.code for result in alive] == [0, 0]
    assert [result.out for result in alive] == ["healthy\n", "ready\n"]
    assert [result.code for result in gone] == [1, 1]
    assert gone[0].err == (
        f"error: not healthy: no agent is running in {folder}; start it with: kos-agent run {folder}\n"
    )


def test_an_agent_that_starts_lives_but_is_not_ready(hello: Path) -> None:
    """The difference that --ready is for."""
    (hello / "entrypoint.py").write_text("import time; time.sleep(600)")
    agent = start_agent(hello)
    try:
        give_up_at = time.monotonic() + READY_DEADLINE_S
        while kos("health", "-C", hello).code != 0:
            assert time.monotonic() < give_up_at
        result = kos("health", "--ready", "--json", "-C", hello)
    finally:
        agent.stop(signal.SIGTERM)
        agent.kill()

    assert result.code == 1
    assert result.json()["ready"] is False
    assert result.json()["reason"]


@pytest.mark.parametrize("columns", [80, 120])
def test_the_status_of_a_real_agent_fits_its_terminal(running: RunningAgent, columns: int) -> None:
    """No line is broken or cut, colours or not."""
    kos("call", "greet", "name=Ada", "-C", running.directory)
    uncoloured = show("status", "-C", running.directory, columns=columns, env={"NO_COLOR": "1"})
    coloured = show("status", "-C", running.directory, columns=columns)

    text = STYLE.sub("", coloured.out)
    assert coloured.code == 0
    for part in ("hello 0.1.0  ● ", "live and ready", "worker 0", "greet", "1 completed"):
        assert part in text
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    assert "\x1b[32m" in coloured.out
    assert "\x1b[3" not in uncoloured.out


def test_the_status_goes_into_a_pipe_without_colours_and_blanks(running: RunningAgent) -> None:
    """Into a mail, or a ticket."""
    result = kos("status", "-C", running.directory)

    assert result.code == 0
    assert "\x1b" not in result.out
    assert result.out.splitlines() == [line.rstrip() for line in result.out.splitlines()]
    assert kos("status", "--json", "-C", running.directory).json()["health"]["live"] is True


def test_a_terminal_of_another_age_gets_a_plainer_screen(running: RunningAgent) -> None:
    """ASCII has no dots and bars; that is no reason to fail."""
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    result = kos("status", "-C", running.directory, env=ascii_only)
    output = kos("call", "greet", "name=Zoë", "-C", running.directory, env=ascii_only)

    assert result.code == 0
    assert "hello 0.1.0  ? ready" in result.out
    assert output.json() == {"text": "Hello, Zoë!"}


def test_a_watched_status_stays_until_ctrl_c(running: RunningAgent) -> None:
    """And leaving is no error."""
    with Terminal(["status", "--watch", "-C", running.directory]) as terminal:
        terminal.read_until("● ready")
        kos("call", "greet", "name=Ada", "-C", running.directory)
        terminal.read_until("1 completed")
        terminal.interrupt()

        assert terminal.wait().code == 0


def test_watched_tasks_are_a_document_to_a_line_for_programs(running: RunningAgent) -> None:
    """Each line parses by itself."""
    arguments = ["tasks", "--watch", "--json", "-C", str(running.directory)]
    with Terminal(arguments) as terminal:
        terminal.read_until("}\n")
        terminal.interrupt()
        result = terminal.wait()

    assert result.code == 0
    assert json.loads(result.out.splitlines()[0]) == {"tasks": []}


def test_an_agent_that_is_killed_is_told_as_gone(hello: Path) -> None:
    """Its host.json is left, and its port may be another program's."""
    agent = start_agent(hello)
    agent.wait_ready()
    agent.kill()

    result = kos("status", "-C", hello)

    assert result.code == 3
    assert (
        f"(the last one, process {agent.pid}, is gone); start it with: kos-agent run" in result.err
    )


def test_the_token_comes_from_the_vault_or_from_a_file(hello: Path, tmp_path: Path) -> None:
    """On the agent's machine nobody names it; from elsewhere nobody gets in without it."""
    write_secret(
        hello / "secrets" / "vault.json", '{"agent_token": "a-token-of-32-characters-at-least"}'
    )
    right = write_secret(tmp_path / "right", "a-token-of-32-characters-at-least\n")
    wrong = write_secret(tmp_path / "wrong", "another-token-of-32-characters-or-more")
    with running_agent(hello) as agent:
        local = kos("status", "-C", hello)
        without = kos("status", "--url", agent.url)
        named = kos("status", "--url", agent.url, "--token-file", right)
        environment = kos("status", "--url", agent.url, env={"AGENT_TOKEN_FILE": str(right)})
        refused = kos("status", "--url", agent.url, "--token-file", wrong)
        probe = kos("health", "--url", agent.url)

    assert [local.code, named.code, environment.code, probe.code] == [0, 0, 0, 0]
    assert [without.code, refused.code] == [3, 3]
    assert "--token-file FILE" in without.err
    assert "token-of-32" not in "".join(result.out + result.err for result in (local, refused))


def test_tls_is_verified_and_a_local_agent_s_certificate_is_its_own(
    hello: Path, tmp_path: Path
) -> None:
    """A probe on the machine works with any certificate; nobody else's is ever taken."""
    secrets = hello / "secrets"
    write_secret(secrets / "key.pem", pem("EC PRIVATE KEY", KEY))
    certificate = write_secret(secrets / "certificate.pem", pem("CERTIFICATE", CERTIFICATE))
    both = write_secret(
        tmp_path / "both.pem", pem("CERTIFICATE", CERTIFICATE) + pem("EC PRIVATE KEY", KEY)
    )
    tls = {
        "AGENT_HTTP__TLS__CERTIFICATE": "secrets/certificate.pem",
        "AGENT_HTTP__TLS__KEY": "secrets/key.pem",
    }
    with (hello / "config.yaml").open("a") as config:
        config.write(
            "http:\n  tls:\n    certificate: secrets/certificate.pem\n    key: secrets/key.pem\n"
        )
    agent = start_agent(hello, env=tls)
    try:
        wait_ready("-C", hello)
        url = json.loads((hello / "runtime" / "host.json").read_text())["url"]
        local = kos("call", "greet", "name=Ada", "-C", hello)
        stranger = kos("status", "--url", url)
        misnamed = kos("status", "--url", url, env={"SSL_CERT_FILE": str(certificate)})
    finally:
        agent.stop()
        agent.kill()

    assert url.startswith("https://")
    assert local.json() == {"text": "Hello, Ada!"}
    for result in (stranger, misnamed):
        assert result.code == 3
        assert f"the certificate of {url} cannot be trusted" in result.err

    agent = start_agent(hello, env=tls | {"AGENT_HTTP__TLS__CLIENT_CA": "secrets/certificate.pem"})
    try:
        wait_ready("-C", hello, "--client-cert", both)
        without = kos("health", "-C", hello)
        useless = kos("health", "-C", hello, "--client-cert", certificate)
    finally:
        agent.stop()
        agent.kill()

    assert without.code == 1
    assert "--client-cert FILE" in without.err
    assert useless.code == 2
    assert "it must hold a certificate and its unencrypted key" in useless.err


def test_a_configuration_is_checked_before_it_is_used(hello: Path) -> None:
    """What is set, and where; and everything that is wrong at once."""
    good = kos("config", "check", hello, env={"AGENT_TASKS__MAX_QUEUE": "5"})
    program = kos("config", "check", "--json", cwd=hello)
    (hello / "config.yaml").write_text("nmae: x\nhttp:\n  prot: 1\n")
    bad = kos("config", "check", hello)

    assert good.code == 0
    assert good.out.splitlines()[0] == "config.yaml: ok"
    assert "  name             hello           config.yaml:3" in good.out
    assert "  tasks.max_queue  5               AGENT_TASKS__MAX_QUEUE" in good.out
    assert program.json()["set"][0] == {"key": "name", "value": "hello", "origin": "config.yaml:3"}
    assert bad.code == 78
    assert len(bad.err.splitlines()) == 2


def test_a_configuration_with_a_broken_vault_is_not_good(hello: Path) -> None:
    """The agent would not start with it either; and no secret is shown."""
    write_secret(hello / "secrets" / "vault.json", '{"key": "hush", }')

    result = kos("config", "check", hello)

    assert result.code == 78
    assert "secrets/vault.json" in result.err
    assert "hush" not in result.err


def test_no_configuration_at_all_is_fine(tmp_path: Path) -> None:
    """Defaults serve."""
    result = kos("config", "check", tmp_path)

    assert result.code == 0
    assert result.out.startswith("no config.yaml: defaults serve\n")


def test_the_schema_of_the_configuration_is_published() -> None:
    """For editors and for CI."""
    schema = kos("config", "schema").json()

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "worker" in schema["properties"]
