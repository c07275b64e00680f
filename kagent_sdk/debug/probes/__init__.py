"""What the commands of a debug session find out: plain functions of the process that they run in.

The process is alive and serves. So each probe takes a `kagent_sdk.debug.probes.budget.Budget` where it
may have much to do, keeps no object of the author's once it has returned, and calls no method of
one: types are told by `type`, sizes by what is written in C, attributes are read from dictionaries.
"""
