"""Every code block of the documentation is run, and every table of facts is held to the code."""
