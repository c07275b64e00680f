"""config.yaml, the environment and overrides as one configuration, or one list of what is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kagent_sdk.config import AgentConfig, keys, load_config, read_config
from kagent_sdk.config.draft import MAX_PROBLEMS
from kagent_sdk.config.environment import variable_of
from kagent_sdk.config.keys import known_keys
from kagent_sdk.config.loading import MAX_FILE_BYTES, fit_name
from kagent_sdk.errors import ConfigError

NOTHING: Mapping[str, str] = {}

ARGV = "should be a program and its arguments"
FOR_COMMANDS = "watchdog_s is for worker.command; the entrypoint has heartbeat_s"
INSIDE = "should be a file inside the agent's folder, such as entrypoint.py"
NO_QUERY = "must not hold a query (?): what is allowed ends with the path"
NOT_CLOSED = "did not find expected ',' or ']' while parsing a flow sequence from line 1 on"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an agent's folder."""
    path = tmp_path / "my-agent"
    path.mkdir()
    return path


def write(folder: Path, text: str) -> Path:
    """Write the folder's config.yaml."""
    (folder / "config.yaml").write_text(text)
    return folder


def problems(
    folder: Path, environ: Mapping[str, str] = NOTHING, overrides: Mapping[str, Any] | None = None
) -> list[str]:
    """Return the lines of the error that the folder's configuration is."""
    with pytest.raises(ConfigError) as caught:
        load_config(folder, environ=environ, overrides=overrides or {})
    return str(caught.value).split("\n")


def test_no_file_at_all_is_fine(folder: Path) -> None:
    """Defaults serve, and the folder gives the name."""
    loaded = read_config(folder, environ=NOTHING)

    assert loaded.config == AgentConfig(name="my-agent")
    assert loaded.path is None
    assert loaded.directory == folder


def test_the_file_sets_keys(folder: Path) -> None:
    """The usual case."""
    text = "name: digest\nhttp:\n  port: 0\n  auth: none\nsecrets: {expose: [a, b]}\nstate:\n"
    loaded = read_config(write(folder, text), environ=NOTHING)

    assert loaded.path == folder / "config.yaml"
    assert loaded.config.name == "digest"
    assert loaded.config.http.port == 0
    assert loaded.config.http.auth == "none"
    assert loaded.config.secrets.expose == ("a", "b")
    assert loaded.config.state == AgentConfig().state


def test_a_worker_may_be_silent_as_long_as_the_file_says(folder: Path) -> None:
    """A model that is loaded into a GPU takes minutes."""
    write(folder, "health: {stall_warn_s: 60, stall_fail_s: 600}")
    health = load_config(folder, environ=NOTHING).health

    assert (health.stall_warn_s, health.stall_fail_s) == (60, 600)


def test_a_file_with_a_byte_order_mark_is_read(folder: Path) -> None:
    """Some editors write one."""
    (folder / "config.yaml").write_bytes(b"\xef\xbb\xbfname: a")

    assert load_config(folder, environ=NOTHING).name == "a"


def test_the_environment_goes_over_the_file_and_overrides_over_both(folder: Path) -> None:
    """A container is configured without a file, a command line without either."""
    write(
        folder, "version: a\ndescription: a\nentrypoint: a.py\nhttp: {port: 1, max_connections: 5}"
    )
    config = load_config(
        folder,
        environ={"AGENT_DESCRIPTION": "b", "AGENT_ENTRYPOINT": "b.py", "AGENT_HTTP__PORT": "2"},
        overrides={"entrypoint": "c.py", "http.tls": {"certificate": "a", "key": "b"}},
    )

    assert (config.version, config.description, config.entrypoint) == ("a", "b", "c.py")
    assert (config.http.port, config.http.max_connections) == (2, 5)
    assert config.http.tls is not None
    assert config.http.tls.key == "b"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("AGENT_NAME", "007", {"name": "007"}),
        ("AGENT_VERSION", "1.0", {"version": "1.0"}),
        ("AGENT_VERSION", "null", {"version": "null"}),
        ("AGENT_DESCRIPTION", "", {"description": ""}),
        ("AGENT_DESCRIPTION", "ä: [", {"description": "ä: ["}),
        ("AGENT_HTTP__HOST", "null", {"http": {"host": None}}),
        ("AGENT_HTTP__HOST", "", {"http": {"host": None}}),
        ("AGENT_HTTP__HOST", "::1", {"http": {"host": "::1"}}),
        ("AGENT_HTTP__AUTH", "none", {"http": {"auth": "none"}}),
        ("AGENT_HTTP__PORT", "0", {"http": {"port": 0}}),
        ("AGENT_HTTP__TLS__KEY", "k", {"http": {"tls": {"key": "k", "certificate": "c"}}}),
        ("AGENT_LIMITS__MEMORY_BYTES", "0x10000000", {"limits": {"memory_bytes": 2**28}}),
        ("AGENT_TASKS__DEFAULT_TIMEOUT_S", "", {"tasks": {"default_timeout_s": None}}),
        ("AGENT_TASKS__DEFAULT_TIMEOUT_S", "1.5", {"tasks": {"default_timeout_s": 1.5}}),
        ("AGENT_SECRETS__EXPOSE", "[a, 'b']", {"secrets": {"expose": ["a", "b"]}}),
        ("AGENT_HTTP", "{port: 1}", {"http": {"port": 1}}),
        ("AGENT_worker__Count", "2", {"worker": {"count": 2}}),
    ],
)
def test_variables_are_read_as_their_key_wants_them(
    folder: Path, name: str, value: str, expected: dict[str, Any]
) -> None:
    """Text needs no quotes in a variable; everything else is YAML, lists included."""
    environ = {name: value}
    if "TLS" in name:
        environ["AGENT_HTTP__TLS__CERTIFICATE"] = "c"
    config = load_config(folder, environ=environ)

    assert config == AgentConfig.model_validate({"name": "my-agent", **expected})


def test_a_section_in_a_variable_is_merged_with_the_file(folder: Path) -> None:
    """What the variable does not mention stays."""
    write(folder, "http: {port: 1, max_connections: 5}\nsecrets: {expose: [1]}")
    environ = {"AGENT_HTTP": "{port: 2}", "AGENT_SECRETS__EXPOSE": "[a]"}
    config = load_config(folder, environ=environ)

    assert (config.http.port, config.http.max_connections) == (2, 5)
    assert config.secrets.expose == ("a",)


def test_our_other_variables_are_no_keys(folder: Path) -> None:
    """Names that the runtime or a platform uses must not be taken for keys, now or later."""
    environ = {
        "AGENT_CONFIG": "config.yaml",
        "AGENT_TOKEN_FILE": "token",
        "AGENT_WORKER_FD": "3",
        "AGENT_STACKS_FD": "4",
        "AGENT_STACKS_SIGNAL": "5",
        "AGENT_PORT_8080_TCP": "tcp://1.2.3.4:8080",  # Kubernetes, for a service named `agent`
        "AGENT_": "x",
        "AGENTNAME": "x",
        "OTHER__KEY": "x",
    }
    write(folder, "")

    assert load_config(folder, environ=environ) == AgentConfig(name="my-agent")


def test_the_variable_names_the_file(folder: Path) -> None:
    """Relative to the folder, or anywhere, as with a mounted file."""
    (folder / "conf").mkdir()
    path = folder / "conf" / "other.yaml"
    path.write_text("name: other")

    assert load_config(folder, environ={"AGENT_CONFIG": "conf/other.yaml"}).name == "other"
    assert read_config(folder, environ={"AGENT_CONFIG": str(path)}).path == path
    assert load_config(folder, environ={"AGENT_CONFIG": ""}).name == "my-agent"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "\ntasks:\n  max_concurency: 3",
            "config.yaml:3: tasks.max_concurency: unknown key; did you mean max_concurrency?",
        ),
        ("port: 80", "config.yaml:1: port: unknown key; did you mean http.port?"),
        (
            "secrets:\n  x1: y",
            (
                "config.yaml:2: secrets.x1: unknown key; the keys here are file, expose, required, "
                "read_only_mount, guard_results"
            ),
        ),
        (
            "shutdown:\n  zz: 1",
            "config.yaml:2: shutdown.zz: unknown key; the keys here are grace_s",
        ),
        (
            "http:\n  port: 70000",
            "config.yaml:2: http.port: should be less than or equal to 65535 (is 70000)",
        ),
        (
            "http:\n  port: '80'",
            'config.yaml:2: http.port: should be a valid integer (is "80"); write it without quotes',
        ),
        ("http:\n  port: 8O", 'config.yaml:2: http.port: should be a valid integer (is "8O")'),
        ("http:\n  port: yes", "config.yaml:2: http.port: should be a valid integer (is true)"),
        ("http: 80", "config.yaml:1: http: should be a mapping of keys (is 80)"),
        ("http: [80]", "config.yaml:1: http: should be a mapping of keys"),
        ("http:\n  tls:\n    key: k", "config.yaml:2: http.tls.certificate: is missing"),
        (
            "version: 1.0",
            "config.yaml:1: version: should be a valid string (is 1.0); put it in quotes",
        ),
        ("version:", "config.yaml:1: version: should be a valid string (is null)"),
        (
            "shutdown:\n  grace_s: .nan",
            "config.yaml:2: shutdown.grace_s: should be a finite number (is NaN)",
        ),
        (
            "health: {stall_warn_s: 70}",
            "config.yaml:1: health: stall_warn_s must not be greater than stall_fail_s",
        ),
        (
            "logs:\n  level: off",
            "config.yaml:2: logs.level: should be 'debug', 'info', 'warning' or 'error' (is false)",
        ),
        ("http: {port: 1, port: 2}", "config.yaml:1: http.port: is there twice, first on line 1"),
        ("- a", "config.yaml:1: should be a mapping of keys, such as `name: my-agent`"),
        ("a: b: c", "config.yaml:1:5: mapping values are not allowed in this context"),
        (
            f"description: {'a' * 10_001}",
            f'config.yaml:1: description: should have at most 10000 characters (is "{"a" * 59}…)',
        ),
        (
            "entrypoint: ../a.py",
            f'config.yaml:1: entrypoint: {INSIDE} (is "../a.py")',
        ),
        (
            "entrypoint: a.py\nworker: {command: [sh]}",
            "config.yaml:1: entrypoint and worker.command exclude each other; keep one",
        ),
        (
            "worker:\n  command: ['']",
            f'config.yaml:2: worker.command: {ARGV}, such as ["sh", "serve.sh"]',
        ),
        (
            'callbacks:\n  allow: ["https://a/?x"]',
            f"config.yaml:2: callbacks.allow: {NO_QUERY}",
        ),
        (
            "worker: {watchdog_s: 3}",
            f"config.yaml:1: worker: {FOR_COMMANDS}",
        ),
    ],
)
def test_a_problem_names_file_line_key_and_way_out(folder: Path, text: str, line: str) -> None:
    """One line, as a compiler writes it."""
    assert problems(write(folder, text)) == [line]


@pytest.mark.parametrize("entrypoint", ["/etc/a.py", "..", "a/../../b.py", "", ".", "./", "a\0.py"])
def test_the_entrypoint_stays_inside_the_folder(folder: Path, entrypoint: str) -> None:
    """The worker runs it: no configuration makes it run something else."""
    [line] = problems(folder, overrides={"entrypoint": entrypoint})

    assert line.startswith(f"override entrypoint: {INSIDE}")


@pytest.mark.parametrize("entrypoint", ["a.py", "src/a.py", "./a.py", "a..py"])
def test_an_entrypoint_may_stand_in_a_folder_of_the_agent(folder: Path, entrypoint: str) -> None:
    """Not every author keeps it at the top."""
    config = load_config(folder, environ=NOTHING, overrides={"entrypoint": entrypoint})

    assert config.entrypoint == entrypoint


def test_everything_that_is_wrong_is_told_at_once(folder: Path) -> None:
    """In the file's order, then the environment's, then the overrides'."""
    write(folder, "logs: {level: x}\nname: a b\nhttp:\n  port: 1\n  port: 2\n  pots: 3\n")
    environ = {
        "AGENT_HTTP__PROT": "1",
        "AGENT_QQQ__VVV": "1",
        "AGENT_WORKER__COUNT": "0",
        "AGENT_WORKER__THREADS": "[1",
        "AGENT_TASKS": "{max_queue: x}",
        "AGENT_NAME": "ok",
    }
    overrides = {"http.prot": 1, "x.y": 1, "http.port": "x", "shutdown.grace_s": 0}

    assert problems(folder, environ, overrides) == [
        "config.yaml:1: logs.level: should be 'debug', 'info', 'warning' or 'error' (is \"x\")",
        "config.yaml:5: http.port: is there twice, first on line 4",
        "config.yaml:6: http.pots: unknown key; did you mean port?",
        "AGENT_HTTP__PROT: unknown key; did you mean AGENT_HTTP__PORT?",
        "AGENT_QQQ__VVV: unknown key; see `kos-agent config schema`",
        'AGENT_TASKS: max_queue: should be a valid integer (is "x")',
        "AGENT_WORKER__COUNT: should be greater than or equal to 1 (is 0)",
        f"AGENT_WORKER__THREADS: {NOT_CLOSED}",
        'override http.port: should be a valid integer (is "x")',
        "override http.prot: unknown key; did you mean port?",
        "override shutdown.grace_s: should be greater than 0 (is 0)",
        "override x.y: unknown key; see `kos-agent config schema`",
    ]


def test_a_rule_between_keys_names_the_variable_that_broke_it(folder: Path) -> None:
    """There is no line to name when the file does not have the section."""
    assert problems(folder, {"AGENT_HEALTH__STALL_WARN_S": "70"}) == [
        "AGENT_HEALTH__STALL_WARN_S: health: stall_warn_s must not be greater than stall_fail_s"
    ]


def test_an_item_of_a_list_is_named_by_its_number(folder: Path) -> None:
    """In the file with its line, in a variable behind its name."""
    assert problems(write(folder, "secrets:\n  expose:\n  - a\n  - 1")) == [
        "config.yaml:4: secrets.expose[1]: should be a valid string; put it in quotes"
    ]
    assert problems(folder, {"AGENT_SECRETS__EXPOSE": "[1]"}) == [
        "AGENT_SECRETS__EXPOSE: [0]: should be a valid string; put it in quotes"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "secrets: hunter2",
        "secrets: {expose: hunter2}",
        "secrets: {hunter1: hunter2}",
        "secrets: {expose: [{a: hunter2}]}",
        "secrets: {file: [hunter2]}",
        "secrets: !hunter2 a",
        "secrets: {expose: *hunter2}",
        "secrets: {expose: !!int hunter2}",
        "secrets: 'hunter2",
    ],
)
def test_nothing_below_secrets_is_ever_repeated(folder: Path, text: str) -> None:
    """Whoever puts a secret there by mistake does not find it in the log as well."""
    variable, _, value = text.partition(": ")

    assert "hunter2" not in "\n".join(problems(write(folder, text)))
    (folder / "config.yaml").unlink()
    assert "hunter2" not in "\n".join(problems(folder, {f"AGENT_{variable.upper()}": value}))


def test_what_stands_in_the_way_of_a_variable_is_told(folder: Path) -> None:
    """The file is wrong here, not the variable."""
    assert problems(write(folder, "http: 80"), {"AGENT_HTTP__TLS__KEY": "a"}) == [
        "config.yaml:1: http: should be a mapping of keys (is 80)"
    ]


def test_a_variable_that_is_not_utf8_is_told(folder: Path) -> None:
    """Python has such bytes as surrogates, which no JSON and no log can hold."""
    assert problems(folder, {"AGENT_DESCRIPTION": os.fsdecode(b"\xff")}) == [
        "AGENT_DESCRIPTION: is not UTF-8"
    ]


@pytest.mark.parametrize("value", [os.fsdecode(b"\xff"), object()])
def test_an_override_that_no_file_could_hold_is_told(folder: Path, value: object) -> None:
    """A command line may hold any bytes too."""
    assert problems(folder, overrides={"description": value}) == [
        "override description: is nothing that config.yaml can hold"
    ]


def test_many_problems_are_counted(folder: Path) -> None:
    """A wrong file of a megabyte is no message of a megabyte."""
    lines = problems(write(folder, "\n".join(f"key{n}: 1" for n in range(MAX_PROBLEMS + 7))))

    assert len(lines) == MAX_PROBLEMS + 1
    assert lines[0].startswith("config.yaml:1: key0: unknown key")
    assert lines[-1] == "and 7 more"


def test_a_named_file_must_exist(folder: Path) -> None:
    """Defaults in place of the configuration that was meant would be worse."""
    assert problems(folder, {"AGENT_CONFIG": "nope.yaml"}) == [
        "nope.yaml: does not exist, but AGENT_CONFIG names it"
    ]


def test_a_broken_link_is_told(folder: Path) -> None:
    """A mount that is missing looks like this."""
    (folder / "config.yaml").symlink_to("nowhere")

    assert problems(folder) == ["config.yaml: does not exist, but it is a broken link"]


def test_what_is_no_file_is_refused_without_waiting(folder: Path) -> None:
    """A named pipe would block the start for ever."""
    os.mkfifo(folder / "pipe.yaml")

    assert problems(folder, {"AGENT_CONFIG": "pipe.yaml"}) == ["pipe.yaml: is not a regular file"]
    assert problems(folder, {"AGENT_CONFIG": "."}) == [".: cannot be read: Is a directory"]


def test_a_file_that_cannot_be_opened_is_told(folder: Path) -> None:
    """The reason is the kernel's."""
    (folder / "config.yaml").symlink_to("config.yaml")

    [line] = problems(folder)
    assert re.fullmatch(r"config\.yaml: cannot be read: Too many levels of symbolic links", line)


def test_a_huge_file_is_refused(folder: Path) -> None:
    """No more than the limit is read."""
    (folder / "config.yaml").write_bytes(b"#" * (MAX_FILE_BYTES + 1))

    assert problems(folder) == ["config.yaml: has more than 1048576 bytes"]


def test_a_file_that_is_not_utf8_is_told_with_the_line(folder: Path) -> None:
    """An old editor's umlaut."""
    (folder / "config.yaml").write_bytes(b"name: a\ndescription: \xe4\n")

    assert problems(folder) == ["config.yaml: is not UTF-8 (line 2)"]


@pytest.mark.parametrize(
    ("folder_name", "name"),
    [
        ("agent", "agent"),
        ("My Agent (2)", "My-Agent-2"),
        ("_x_", "x"),
        ("...", "agent"),
        ("", "agent"),
        ("é", "agent"),
        ("a" * 70, "a" * 63),
        ("a" * 62 + "-b", "a" * 62),
    ],
)
def test_a_folder_gives_a_name_that_fits(folder_name: str, name: str) -> None:
    """Any folder can hold an agent."""
    assert fit_name(folder_name) == name
    assert AgentConfig(name=name).name == name


def test_a_long_list_of_keys_is_cut(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A section may grow; a message stays a line."""
    monkeypatch.setattr(keys, "MAX_LISTED", 2)

    [line] = problems(write(folder, "worker: {zz: 1}"))
    assert line.endswith("the keys here are count, threads, …")


def test_every_key_can_be_overridden() -> None:
    """No key is out of reach of the environment: none has the separator in its name."""
    for path in known_keys():
        variable = variable_of(path)
        assert tuple(variable.removeprefix("AGENT_").lower().split("__")) == path
