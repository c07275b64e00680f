"""Entrypoints whose import takes long, for tests of a start that does not end in time."""

from __future__ import annotations

from kagent_sdk.host.watchdog import TICK_S
from kagent_sdk.host.worker_process import STACKS_SIGNAL

SLOW_IMPORT = "import time\ntime.sleep({seconds})\n"

HANGING_IMPORT = f"""
import signal, time

def hang():
    signal.pthread_sigmask(signal.SIG_BLOCK, [{STACKS_SIGNAL}])
    while {STACKS_SIGNAL} not in signal.sigpending():
        time.sleep(0.02)
    time.sleep({4 * TICK_S})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [{STACKS_SIGNAL}])
    time.sleep(60)

hang()
"""
"""Shows its stacks late, as where the machine gives the process no turn when it is asked for them."""

UNPREPARED_IMPORT = f"""
import faulthandler, time
faulthandler.unregister({STACKS_SIGNAL})
time.sleep(60)
"""
"""Cannot show its stacks, as before the interpreter has come to the library's first line."""
