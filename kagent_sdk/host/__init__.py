"""The process that never runs the author's code: it admits, dispatches, supervises and answers."""
