"""Run every benchmark and rewrite docs/benchmarks.md."""

from __future__ import annotations

import sys

import dispatch
import durability
import harness
import logs
import memory
import probes
import sandbox
import startup
from rig.command import main

if __name__ == "__main__":
    scripts = [
        dispatch.run,
        durability.run,
        startup.run,
        sandbox.run,
        memory.run,
        probes.run,
        logs.run,
        harness.run,
    ]
    sys.exit(main(scripts, __doc__))
