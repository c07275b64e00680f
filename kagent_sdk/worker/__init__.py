"""The process that runs the author's code: a thin loop that validates, runs and answers."""
