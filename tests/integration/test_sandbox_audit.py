"""The audit of the sandbox: probes that try, agents that tell, starts that are refused."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kagent_sdk.sandbox.audit.probing import audit_worker, end_probe
from kagent_sdk.sandbox.audit.wire import Question, decode_findings
from kagent_sdk.sandbox.controls import Control, Finding, Verdict
from kagent_sdk.sandbox.policy import Isolation, Limits, Mode, Network, Policy
from tests.agents import REPOSITORY, running_agent, start_agent

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="platform: the sandbox is made of Linux's means"
)

KEEP = {"AGENT_WORKER__USER": "keep"}

TRIED = (Control.FILES, Control.TCP_PORTS, Control.SCOPES, Control.SYSCALLS, Control.EGRESS)
"""Controls that the kernel shows nothing of, or not enough."""

EXAMINE = """
import pickle, sys
from kagent_sdk.sandbox.audit.probe import examine
from kagent_sdk.sandbox.audit.wire import encode_findings
sys.stdout.buffer.write(encode_findings(examine(pickle.load(sys.stdin.buffer), lambda policy: ())))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an agent's folder with a place to write and a vault."""
    (tmp_path / "data").mkdir()
    (tmp_path / "vault.json").write_text("{}")
    return tmp_path


def policy_of(folder: Path, **parts: Any) -> Policy:
    """Return a policy under which Python runs, and that gives ``data`` of the folder."""
    return Policy(
        read=(sys.base_prefix, sys.prefix, str(REPOSITORY), "/usr", "/lib", "/lib64", "/proc"),
        write=(str(folder / "data"),),
        execute=("/usr", "/bin", sys.base_prefix),
        **parts,
    )


def table(findings: tuple[Finding, ...]) -> dict[Control, Finding]:
    """Return findings by control."""
    return {finding.control: finding for finding in findings}


def left_in(folder: Path) -> list[str]:
    """Return what stands in the folders that a probe makes its files in."""
    return sorted(path.name for path in (*folder.iterdir(), *(folder / "data").iterdir()))


def test_a_probe_proves_what_is_in_force(folder: Path) -> None:
    """The kernel shows neither Landlock's rules nor a filter's: somebody has to try."""
    before = left_in(folder)
    rows = table(audit_worker(policy_of(folder), vault=folder / "vault.json", outside=(folder,)))

    for control in (*TRIED, Control.VAULT, Control.CAPABILITIES, Control.NO_NEW_PRIVILEGES):
        assert rows[control].verdict is Verdict.IN_FORCE, rows[control]
    assert "open(O_WRONLY): EACCES" in rows[Control.FILES].evidence
    assert "execve: EACCES" in rows[Control.FILES].evidence
    assert "Landlock ABI" in rows[Control.FILES].evidence
    assert left_in(folder) == before


def test_a_probe_that_is_not_confined_is_found_out(folder: Path) -> None:
    """Each attempt succeeds without the sandbox: so it is the sandbox that refuses it."""
    question = Question(policy_of(folder), str(folder / "vault.json"), (str(folder),))
    done = subprocess.run(
        [sys.executable, "-c", EXAMINE],
        input=pickle.dumps(question),
        stdout=subprocess.PIPE,
        check=True,
    )
    findings = decode_findings(done.stdout)
    succeeded = {one.evidence for one in findings if one.evidence.endswith(": succeeded")}

    for call in ("open(O_RDONLY)", "open(O_WRONLY)", "open(O_CREAT)", "execve", "bind", "connect"):
        assert f"{call}: succeeded" in succeeded
    for call in ("kill", "connect(AF_UNIX)", "socket(AF_NETLINK)", "socket(SOCK_DGRAM)"):
        assert f"{call}: succeeded" in succeeded
    assert {one.control for one in findings if one.verdict is Verdict.MISSING} >= {
        *TRIED,
        Control.VAULT,
        Control.NO_NEW_PRIVILEGES,
    }


def test_what_the_policy_allows_is_not_held_against_it(folder: Path) -> None:
    """With external: true the probe may connect, and the table says that nobody asked."""
    rows = table(audit_worker(policy_of(folder, network=Network(external=True))))

    assert rows[Control.EGRESS].verdict is Verdict.NOT_ASKED_FOR
    assert "connect:" not in rows[Control.TCP_PORTS].evidence


def test_limits_are_read_back(folder: Path) -> None:
    """What the kernel has noted counts, not what was set."""
    policy = policy_of(folder, limits=Limits(open_files=100, processes=None))
    rows = table(audit_worker(policy))
    assert rows[Control.LIMITS].verdict is Verdict.IN_FORCE
    assert "/proc/PID/limits" in rows[Control.LIMITS].evidence


def test_a_probe_that_does_not_start_leaves_controls_unknown(folder: Path) -> None:
    """Nothing is in force because nobody could look."""
    rows = table(audit_worker(policy_of(folder), wrapper=("/bin/false",)))

    assert rows[Control.FILES].verdict is Verdict.UNKNOWN
    assert not rows[Control.FILES].holds


def test_a_probe_can_be_ended(folder: Path) -> None:
    """A host that goes down waits for none."""
    started: list[subprocess.Popen[bytes]] = []

    def end(probe: subprocess.Popen[bytes]) -> None:
        started.append(probe)
        end_probe(probe)

    rows = table(audit_worker(policy_of(folder), on_start=end))

    assert started[0].returncode is not None
    assert rows[Control.SYSCALLS].verdict is Verdict.UNKNOWN
    end_probe(started[0])


def test_a_sandbox_that_is_off_is_not_probed(folder: Path) -> None:
    """There is nothing to prove."""
    rows = table(audit_worker(replace(policy_of(folder), mode=Mode.OFF)))

    assert rows[Control.FILES].verdict is Verdict.MISSING
    assert rows[Control.FILES].evidence == "sandbox.mode is off"


def test_namespaces_that_are_shared_are_found(folder: Path) -> None:
    """Isolation bwrap without bubblewrap around it has none."""
    rows = table(audit_worker(replace(policy_of(folder), isolation=Isolation.BWRAP)))

    assert rows[Control.NAMESPACES].verdict is Verdict.MISSING
    assert "net" in rows[Control.NAMESPACES].actual


# Agents


ENTRYPOINT = """
from kagent_sdk import Agent

agent = Agent()

@agent.capability
async def look(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(10).hex()

if __name__ == "__main__":
    agent.run()
"""


@pytest.fixture
def agent_folder(tmp_path: Path) -> Path:
    """Return the folder of an agent that opens what it is told to."""
    directory = tmp_path / "looker"
    directory.mkdir()
    (directory / "entrypoint.py").write_text(ENTRYPOINT)
    return directory


def doctor(directory: Path, *options: str, code: int, env: dict[str, str] | None = None) -> str:
    """Run kos-agent doctor and return what it prints; fail on another exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "kagent_sdk", "doctor", str(directory), *options],
        env=os.environ | KEEP | {"COLUMNS": "80"} | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout


def test_a_running_agent_tells_what_is_in_force(agent_folder: Path) -> None:
    """The status and the doctor say the same: what was applied, seen and tried."""
    with running_agent(agent_folder, env=KEEP) as agent:
        audited = agent.wait_logged("sandbox_audited")
        status = agent.status()["sandbox"]
        told = json.loads(doctor(agent_folder, "--json", code=0))
        shown = doctor(agent_folder, code=0)

    rows = {row["control"]: row for row in status["controls"]}
    assert list(rows) == [control.value for control in Control]
    assert (status["mode"], status["isolation"], status["holds"]) == ("enforce", "process", True)
    assert audited["mode"] == "enforce"
    assert "/proc/PID/status Seccomp" in rows["syscalls"]["evidence"]
    assert "PR_GET_DUMPABLE of the host" in rows["host_memory"]["evidence"]
    assert told["source"] == "agent"
    assert {row["control"]: row["verdict"] for row in told["controls"]} == {
        name: row["verdict"] for name, row in rows.items()
    }
    assert "all that is critical holds" in shown
    assert "asked the running agent" in shown


def test_the_hosts_memory_is_closed_and_its_figures_stay(agent_folder: Path) -> None:
    """What the flag costs is nothing that the status tells."""
    with running_agent(agent_folder, env=KEEP) as agent:
        (host, worker) = agent.status()["processes"]
        owner = Path(f"/proc/{agent.pid}/environ").stat().st_uid

    assert owner == 0  # of a process that is not dumpable all belongs to root (proc(5))
    for figure in ("rss_bytes", "pss_bytes", "uss_bytes", "threads", "fds", "cpu_s"):
        assert host[figure], figure
        assert worker[figure], figure


def test_doctor_asks_a_probe_where_no_agent_runs(agent_folder: Path) -> None:
    """Before the first start one wants to know what this machine can do."""
    told = json.loads(doctor(agent_folder, "--json", code=0))

    rows = {row["control"]: row for row in told["controls"]}
    assert told["source"] == "probe"
    assert rows["files"]["verdict"] == "in_force"
    assert rows["host_memory"]["verdict"] in {"unknown", "in_force"}
    assert not (agent_folder / "runtime" / "host.json").exists()


def test_doctor_fails_where_something_critical_is_open(agent_folder: Path) -> None:
    """A script reads the exit code."""
    (agent_folder / "config.yaml").write_text("sandbox:\n  mode: 'off'\n")
    shown = doctor(agent_folder, code=1)

    assert "critical controls do not hold" in shown
    assert "set sandbox.mode: enforce" in shown


def test_doctor_knows_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A wrong name is not an agent that does not run."""
    doctor(tmp_path / "nowhere", code=2)


def test_what_is_required_and_in_force_lets_the_agent_start(agent_folder: Path) -> None:
    """The requirement costs the start a probe, and nothing else."""
    names = "[files, syscalls, scopes, no_new_privileges, host_memory, vault]"
    (agent_folder / "config.yaml").write_text(f"sandbox:\n  require: {names}\n")

    with running_agent(agent_folder, env=KEEP) as agent:
        agent.wait_logged("sandbox_audited")

        assert agent.status()["sandbox"]["holds"] is True


def test_what_is_required_and_missing_fails_the_start(agent_folder: Path) -> None:
    """With every control that is missing, why, and how to get it; no line of the author's runs."""
    (agent_folder / "entrypoint.py").write_text("open('runtime/data/ran', 'w').close()\n")
    (agent_folder / "config.yaml").write_text("sandbox:\n  require: [files, namespaces, egress]\n")
    agent = start_agent(agent_folder, env={**KEEP, "AGENT_SANDBOX__NETWORK__EXTERNAL": "true"})

    assert agent.wait() == 3
    assert "sandbox.require: not in force:" in agent.log_text
    assert "namespaces is not asked for; set worker.isolation: bwrap" in agent.log_text
    assert "egress is not asked for; set sandbox.network.external: false" in agent.log_text
    assert "files" not in agent.log_text.partition("not in force:")[2]
    assert not (agent_folder / "runtime" / "data" / "ran").exists()
