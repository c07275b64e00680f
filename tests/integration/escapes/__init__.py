"""Ways out of the sandbox, each a small function that returns evidence or raises.

Nothing here imports more than the standard library: the package is copied into an agent's folder
and runs in its worker, and the same code runs outside, where it must succeed to count.
"""
