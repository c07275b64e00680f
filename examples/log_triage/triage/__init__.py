"""Turn log files into a report: sources (files) -> parsing (records) -> mining (templates) -> report.

Nothing in this package knows of the agent: `entrypoint.py` is the only module that does.
"""
