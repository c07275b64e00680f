"""See inside a living worker: the commands of ``kos-agent debug``, and the server that takes them.

================================  ===========================================================================
`kagent_sdk.debug.port`      what of the worker the commands may ask for (`Inspected`), and what one
                             is run with (`Session`)
`kagent_sdk.debug.server`    takes connections that the host has handed over, and runs commands and
                             terminals on a thread of its own
`kagent_sdk.debug.commands`  the commands, one file each; ``make_commands()`` loads them
`kagent_sdk.debug.probes`    what the commands find out: plain functions of the process
================================  ===========================================================================

Nothing of it is loaded before the first connection.
"""
