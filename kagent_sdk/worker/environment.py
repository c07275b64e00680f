"""The environment variables by which the host ties a worker to itself. Imports nothing."""

WORKER_FD = "AGENT_WORKER_FD"
"""The descriptor of the worker's end of the socket; gone once `agent.run()` has taken it."""

STACKS_FD = "AGENT_STACKS_FD"
"""The descriptor that faulthandler writes all stacks to."""

STACKS_SIGNAL = "AGENT_STACKS_SIGNAL"
"""The number of the signal that makes it do so."""

DEBUG_FD = "AGENT_DEBUG_FD"
"""The descriptor on which debug sessions are handed over; there where debugging is on."""

WORKER_PID = "AGENT_WORKER_PID"
"""Set by the worker when it takes the socket: tells a second `agent.run()` in the same process
from one in a child process."""

LOG_LEVEL = "AGENT_LOG_LEVEL"
"""``logs.level``; without it `logging`, `warnings` and structlog are left to the author."""

SANDBOX = "AGENT_SANDBOX"
"""Set once the process is confined: the mode, and `` external`` behind it when the network is open."""
