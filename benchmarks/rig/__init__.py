"""What the benchmarks share: contenders, processes, load, statistics, budgets and the report.

Standard library only, so that any Python 3.11 can run a benchmark; each contender gets a virtual
environment of its own, and `pump` runs in ours.
"""
