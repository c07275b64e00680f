"""Agents that the benchmarks run, one file each: the file becomes the entrypoint.py of a folder."""
